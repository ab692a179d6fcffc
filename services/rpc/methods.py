"""The calls of the services in swarm.proto, for channels and servers, made from their descriptors."""

from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from services.rpc import swarm_pb2 as pb

# By whether the caller sends a stream, and whether it gets one.
_CALLS = {
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, False): "stream_unary",
    (True, True): "stream_stream",
}


class Stub:
    """Has each call of a service as an attribute of that name."""

    def __init__(self, channel: Any, service: str) -> None:
        found = _service(service)
        for method in found.methods:
            make = getattr(channel, _kind(method))
            reply = GetMessageClass(method.output_type).FromString
            request = GetMessageClass(method.input_type).SerializeToString
            path = f"/{found.full_name}/{method.name}"
            call = make(path, request_serializer=request, response_deserializer=reply, _registered_method=True)
            setattr(self, method.name, call)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"there is no call {name}")


def add_service(server: Any, service: str, servicer: object) -> str:
    """Has ``server`` answer the calls of a service by the methods of ``servicer`` with the same names; other calls are
    not implemented. Returns the full name of the service.
    """
    found = _service(service)
    handlers = {
        method.name: getattr(grpc, f"{_kind(method)}_rpc_method_handler")(
            getattr(servicer, method.name),
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=GetMessageClass(method.output_type).SerializeToString,
        )
        for method in found.methods
        if hasattr(servicer, method.name)
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(found.full_name, handlers),))
    server.add_registered_method_handlers(found.full_name, handlers)
    return str(found.full_name)


def _service(name: str) -> ServiceDescriptor:
    found: ServiceDescriptor = pb.DESCRIPTOR.services_by_name[name]
    return found


def _kind(method: MethodDescriptor) -> str:
    return _CALLS[method.client_streaming, method.server_streaming]
