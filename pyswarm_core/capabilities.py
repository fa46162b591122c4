"""Parts of the kernel that some networks need and some hosts lack. PURE."""

from enum import StrEnum


class Capability(StrEnum):
    """A part of the kernel that some networks need and some hosts lack."""

    ESP = "esp"
    """IPsec with AES-GCM, for encrypted networks."""
    IPV6 = "ipv6"
    """IPv6, for dual-stack networks."""


KERNEL_WITH = {
    Capability.ESP: "IPsec ESP and AES-GCM (CONFIG_XFRM_USER, CONFIG_INET_ESP, CONFIG_CRYPTO_GCM)",
    Capability.IPV6: "IPv6 (CONFIG_IPV6, and not ipv6.disable=1)",
}
"""The kernel configuration that each capability needs, for messages."""
