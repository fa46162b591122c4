"""Conversion between this project's errors and gRPC statuses: one table. SHELL."""

from collections.abc import Mapping
from types import MappingProxyType

import grpc

from pyswarm_core import errors

CODES: Mapping[type[errors.PyswarmError], grpc.StatusCode] = MappingProxyType(
    {
        errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
        errors.NotFound: grpc.StatusCode.NOT_FOUND,
        errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
        errors.Conflict: grpc.StatusCode.ABORTED,
        errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
        errors.Exhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
        errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    }
)
_ERRORS = {code: error for error, code in CODES.items()}
_NAMED = {error.__name__: error for error in CODES}


def code_of(error: errors.PyswarmError) -> grpc.StatusCode:
    """The status code that carries this error."""
    codes = (CODES[base] for base in type(error).__mro__ if base in CODES)
    return next(codes, grpc.StatusCode.INTERNAL)


def name_of(error: Exception) -> str:
    """The name of this error in a tunnel's frame, or of its base in the table; Unavailable for any
    other error.
    """
    names = (base.__name__ for base in type(error).__mro__)
    return next((name for name in names if name in _NAMED), errors.Unavailable.__name__)


def error_named(name: str, text: str) -> errors.PyswarmError:
    """The error of a name in a tunnel's frame; Unavailable for a name that is not in the table."""
    return _NAMED.get(name, errors.Unavailable)(text)


def error_of(call_error: grpc.RpcError) -> errors.PyswarmError:
    """The error of a failed call; Unavailable for every error of the transport."""
    code = call_error.code()
    details = call_error.details() or code.name
    return _ERRORS.get(code, errors.Unavailable)(details)
