"""Limits of users, certificates and the audit log. PURE."""

from pyswarm_core.clock import HOUR, MINUTE, SECOND

USERS_MAX = 1_000
"""Users of the API."""
STACKS_PER_USER = 100
"""Stacks that one user may be limited to."""
TOKENS_PER_USER = 64
"""Tokens of one user; expired ones count until they are removed."""
TOKEN_LIFETIME_MAX = 10 * 365 * 24 * HOUR
USER_BYTES_MAX = 64 * 1024
"""A stored user with its labels and tokens."""
AUDIT_RECORDS = 10_000
AUDIT_BYTES = 8 * 1024 * 1024
"""Audit records of users' changes in the store, keys and values: the oldest are deleted. A leader
has them in memory as well, and loads them with its term (20 us each).
"""
AUDIT_RECORDS_OTHER = 2_500
AUDIT_BYTES_OTHER = 2 * 1024 * 1024
"""The same of hosts' requests, and of refused requests."""
AUDIT_RECORD_BYTES = 4_000
"""An audit record with its key: what does not fit is left out and counted."""
AUDIT_VALUE_BYTES = 256
"""A field's value in an audit record; longer ones are cut."""
AUDITS_PER_OBJECT = 16
"""Audit records that one transaction stores with an object; further changes of it wait."""
AUDIT_DELETED = 64
"""The oldest records that a new one deletes at most: the largest replaces fewer of the smallest."""
AUDIT_FILE_MIB = 100
AUDIT_BACKUPS = 10
"""Defaults of the size of a file of the audit log, and of rotated files that are kept."""
AUDIT_FILES_MAX = 1_000
"""The highest value of either."""
REFUSALS_PER_MINUTE = 20
"""Refused requests of one caller that have a record each; the next one counts the others."""
REFUSALS_WAITING = 200
"""Audit records of refused requests that wait to be stored: within STATUS_FLUSH_PERIOD."""
REFUSED_CALLERS = 1_000
"""Callers whose refused requests are counted; that of the longest ago is forgotten first."""
AUDIT_PER_SLICE = 32
"""Audit records that are decoded and compared with a request's filters in one slice."""
CA_ROTATION_MIN = 10 * SECOND
"""Former roots are trusted for so long at least, so that commands that run meanwhile renew the
certificates of their contexts.
"""

CERT_EXPIRY = 90 * 24 * HOUR
"""The lifetime of a certificate (Swarm's)."""
CERT_EXPIRY_MIN = 5 * SECOND
"""Renewal takes about a tenth of a second and begins after half of the lifetime."""
CERT_EXPIRY_MAX = 365 * 24 * HOUR
"""A stolen key is of use for so long at most, unless its node is removed."""
RENEWED_WITHIN = 30 * 24 * HOUR
"""How long after its end a certificate can be renewed by a proof of its key."""
CLOCK_SKEW_MAX = 10 * SECOND
"""A host whose clock differs by more has a fault. Certificates begin an hour before they are issued
(Swarm's), so that a fault is seen long before a connection fails.
"""
CLOCK_SKEW_REFUSED = 50 * MINUTE
"""A host whose clock differs by more may not join: its certificate would soon not be valid."""
