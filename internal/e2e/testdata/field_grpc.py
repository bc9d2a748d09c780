"""A client as programs of the field are: grpc.aio, an insecure channel, no metadata.

usage: field_grpc.py DESCRIPTORS ADDRESS ID

DESCRIPTORS is a file with a FileDescriptorSet, which stands in for generated stubs. ID begins the ids of
tasks. It submits, polls and streams, and ends with 0 if every answer was as the contract says.
"""

import asyncio
import sys
import time

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "orchestrator.v1.OrchestratorService"
PATIENCE = 60  # seconds


class Stub:
    """What a generated stub is: a method for each RPC."""

    def __init__(self, channel, pool):
        for method in pool.FindServiceByName(SERVICE).methods:
            request, response = message_class(pool, method.input_type), message_class(pool, method.output_type)
            proto = descriptor_pb2.MethodDescriptorProto()
            method.CopyToProto(proto)
            if proto.client_streaming:
                continue
            kind = channel.unary_stream if proto.server_streaming else channel.unary_unary
            call = kind(
                f"/{SERVICE}/{method.name}",
                request_serializer=request.SerializeToString,
                response_deserializer=response.FromString,
            )
            setattr(self, method.name, bind(call, request))


def bind(call, request):
    return lambda **fields: call(request(**fields), timeout=PATIENCE)


def message_class(pool, descriptor):
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)  # before protobuf 4.22


def load(path):
    files = descriptor_pb2.FileDescriptorSet()
    with open(path, "rb") as f:
        files.ParseFromString(f.read())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool


def expect(what, got, want):
    if got != want:
        sys.exit(f"{what}: got {got!r}, want {want!r}")


async def expect_error(what, call, code):
    try:
        got = await call
    except grpc.aio.AioRpcError as error:
        expect(what, error.code(), code)
        if not error.details():
            sys.exit(f"{what}: no word about why")
    else:
        sys.exit(f"{what}: answered with {got}")


async def until_ended(stub, task_id):
    """Polls, as programs do that know nothing of streams."""
    for _ in range(PATIENCE * 20):
        answer = await stub.GetTaskStatus(task_id=task_id)
        if answer.status in ("completed", "failed"):
            return answer
        if answer.status not in ("pending", "running"):
            sys.exit(f"status {answer.status!r} is not one of the four")
        await asyncio.sleep(0.05)
    sys.exit(f"{task_id} has not ended")


async def submit_and_poll(stub, name):
    payload = {"message": "hello", "number": "007", "list": "[1, 2]"}
    first = await stub.SubmitTask(id=name, payload=payload)
    expect("submitted", (first.success, first.task_id, first.error), (True, name, ""))
    again = await stub.SubmitTask(id=name, payload=payload)
    expect("the same again", (again.success, again.task_id), (True, name))
    other = await stub.SubmitTask(id=name, payload={"message": "something else"})
    expect("the same id for something else", other.success, False)
    if not other.error:
        sys.exit("a refused task comes without a reason")
    chosen = await stub.SubmitTask(payload={"message": "without an id"})
    if not (chosen.success and chosen.task_id):
        sys.exit(f"a task without an id: {chosen}")
    answer = await until_ended(stub, name)
    expect("status", (answer.task_id, answer.status, answer.error), (name, "completed", ""))
    expect("result", (answer.result["message"], answer.result["number"]), ("hello", "007"))
    await until_ended(stub, chosen.task_id)
    await expect_error("an empty id", stub.GetTaskStatus(), grpc.StatusCode.INVALID_ARGUMENT)
    await expect_error("an unknown id", stub.GetTaskStatus(task_id="nobody"), grpc.StatusCode.NOT_FOUND)


async def stream_results(stub, name):
    """Opens the stream first, as a program does that has several tasks to wait for."""
    ids = [f"{name}-good", f"{name}-bad"]
    for task_id, command in zip(ids, ("sleep 0.2; echo fine", "exit 3")):
        answer = await stub.SubmitTask(id=task_id, payload={"command": command})
        expect(task_id, answer.success, True)
    results = {}
    async for result in stub.StreamTaskResults(task_ids=ids, include_completed=True):
        results[result.task_id] = result
    expect("results", {i: r.status for i, r in results.items()}, {ids[0]: "completed", ids[1]: "failed"})
    good, bad = (results[i] for i in ids)
    if good.duration_ms < 100 or abs(time.time() - good.completed_at) > 60 or not bad.error:
        sys.exit(f"results say {good} and {bad}")


async def stream_events(stub, name, since):
    seen = {}
    stream = stub.StreamEvents(since_timestamp=since)
    async for event in stream:
        seen.setdefault(event.resource_id, []).append(event.event_type)
        if event.resource_id == f"{name}-bad" and event.event_type == "task_failed":
            break
    stream.cancel()
    expect("events of a task", seen[f"{name}-bad"], ["task_submitted", "task_started", "task_failed"])
    only = stub.StreamEvents(since_timestamp=since, event_types=["task_completed"])
    async for event in only:
        expect("type of an event", event.event_type, "task_completed")
        if event.resource_id == f"{name}-good":
            break
    only.cancel()


async def stream_logs(stub, name):
    answer = await stub.SubmitTask(id=f"{name}-logs", payload={"command": "echo one; sleep 0.2; echo two"})
    expect("submitted", answer.success, True)
    text = b""
    async for chunk in stub.StreamLogs(task_id=f"{name}-logs", follow=True):
        text += chunk.data
    expect("output", text, b"one\ntwo\n")


async def others(stub):
    health = await stub.Health()
    expect("healthy", health.healthy, True)
    if not health.version or "queue" not in health.services:
        sys.exit(f"health says {health}")
    metrics = (await stub.GetMetrics()).metrics
    for metric in (
        "env_queue_depth", "gpu_wait_seconds", "tasks_pending", "tasks_running", "tasks_completed", "tasks_failed",
        "task_error_rate", "concurrency_limit", "inflight_tasks",
    ):
        if metric not in metrics:
            sys.exit(f"there is no {metric} among {sorted(metrics)}")
    some = await stub.GetMetrics(metric_names=["tasks_completed"])
    expect("metrics that were asked for", list(some.metrics), ["tasks_completed"])


async def main(descriptors, address, name):
    pool, since = load(descriptors), int(time.time())
    async with grpc.aio.insecure_channel(address) as channel:
        stub = Stub(channel, pool)
        await others(stub)
        await submit_and_poll(stub, name)
        await stream_results(stub, name)
        await stream_events(stub, name, since)
        await stream_logs(stub, name)
    print(f"grpcio {grpc.__version__}: all is as the contract says")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
