"""Our errors as gRPC statuses and back: one table. SHELL."""

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
        errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    }
)
_ERRORS = {code: error for error, code in CODES.items()}


def code_of(error: errors.PyswarmError) -> grpc.StatusCode:
    """The status code that carries this error."""
    return CODES.get(type(error), grpc.StatusCode.UNKNOWN)


def error_of(call_error: grpc.RpcError) -> errors.PyswarmError:
    """The error that a failed call carried; Unavailable for everything the transport made up."""
    code = call_error.code()
    details = call_error.details() or code.name
    return _ERRORS.get(code, errors.Unavailable)(details)
