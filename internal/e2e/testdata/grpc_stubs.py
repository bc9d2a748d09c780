"""Writes what protoc would: modules for the messages and the stub, out of a FileDescriptorSet.

usage: grpc_stubs.py DESCRIPTORS FOLDER
"""

import pathlib
import sys

MESSAGES = '''
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

files = descriptor_pb2.FileDescriptorSet()
with open({descriptors!r}, "rb") as f:
    files.ParseFromString(f.read())
pool = descriptor_pool.DescriptorPool()
for file in files.file:
    pool.Add(file)
for name in pool.FindFileByName("orchestrator/v1/orchestrator.proto").message_types_by_name:
    descriptor = pool.FindMessageTypeByName("orchestrator.v1." + name)
    if hasattr(message_factory, "GetMessageClass"):
        globals()[name] = message_factory.GetMessageClass(descriptor)
    else:
        globals()[name] = message_factory.MessageFactory(pool).GetPrototype(descriptor)  # before protobuf 4.22
'''

STUB = '''
from google.protobuf import descriptor_pb2
from orchestrator.v1 import orchestrator_pb2


class OrchestratorServiceStub:
    def __init__(self, channel):
        for method in orchestrator_pb2.pool.FindServiceByName("orchestrator.v1.OrchestratorService").methods:
            proto = descriptor_pb2.MethodDescriptorProto()
            method.CopyToProto(proto)
            if proto.client_streaming:
                continue
            kind = channel.unary_stream if proto.server_streaming else channel.unary_unary
            request = getattr(orchestrator_pb2, method.input_type.name)
            response = getattr(orchestrator_pb2, method.output_type.name)
            setattr(self, method.name, kind(
                "/orchestrator.v1.OrchestratorService/" + method.name,
                request_serializer=request.SerializeToString,
                response_deserializer=response.FromString,
            ))
'''

descriptors, folder = sys.argv[1:]
package = pathlib.Path(folder, "orchestrator", "v1")
package.mkdir(parents=True)
(package / "orchestrator_pb2.py").write_text(MESSAGES.format(descriptors=descriptors))
(package / "orchestrator_pb2_grpc.py").write_text(STUB)
