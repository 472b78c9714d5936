"""A careful application on asyncio-nats-streaming: publishes numbered messages until each is
acknowledged, or reads them through a durable. See ../README.md for the command line and the output."""

import argparse
import asyncio
import functools
import json
import ssl
import sys


def accept_loop_argument():
    """The libraries' last releases pass `loop=`, which Python 3.10 removed; applications that still use
    them on newer Pythons do the same as this."""

    def without_loop(function):
        @functools.wraps(function)
        def call(*args, loop=None, **kwargs):
            return function(*args, **kwargs)

        return call

    for name in ("sleep", "wait_for", "open_connection"):
        setattr(asyncio, name, without_loop(getattr(asyncio, name)))

    class Queue(asyncio.Queue):
        def __init__(self, maxsize=0, *, loop=None):
            super().__init__(maxsize)

    asyncio.Queue = Queue


accept_loop_argument()

from nats.aio.client import Client as Nats  # noqa: E402
from stan.aio.client import Client as Stan  # noqa: E402

# How many publishes may be under way: enough to fill the broker's batches.
WINDOW = 256


def report(**fields):
    print(json.dumps(fields), flush=True)


def arguments():
    parser = argparse.ArgumentParser()
    for name in ("url", "ca", "cert", "key", "cluster", "client", "channel", "mode", "durable"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int)
    return parser.parse_args()


async def publish(client, flags):
    slots = asyncio.Semaphore(WINDOW)
    acked = 0

    async def send(number):
        nonlocal acked
        while True:
            try:
                ack = await client.publish(flags.channel, str(number).encode(), ack_wait=5)
                if not ack.error:
                    break
            except Exception:  # the library raises several kinds while the broker restarts
                pass
            await asyncio.sleep(0.05)
        acked += 1
        if acked % 1000 == 0:
            report(event="acked", count=acked)
        slots.release()

    tasks = []
    for number in range(flags.first, flags.first + flags.count):
        await slots.acquire()
        tasks.append(asyncio.create_task(send(number)))
    await asyncio.gather(*tasks)
    await client.close()
    return {"acked": acked}


async def subscribe(client, flags):
    seen = set()
    sequences = []
    redelivered = 0
    whole = asyncio.Event()

    async def take(message):
        nonlocal redelivered
        if len(seen) >= flags.count:
            return  # left unacknowledged: the durable hands it to whoever resumes
        sequences.append(message.seq)
        redelivered += message.proto.redelivered
        await client.ack(message)
        seen.add(message.data)
        if len(seen) % 1000 == 0:
            report(event="received", count=len(seen))
        if len(seen) == flags.count:
            whole.set()

    subscription = await client.subscribe(
        flags.channel,
        cb=take,
        durable_name=flags.durable,
        deliver_all_available=True,
        manual_acks=True,
        max_inflight=512,
        ack_wait=5,
    )
    await whole.wait()
    await subscription.close()
    await client.close()
    return {
        "received": len(sequences),
        "distinct": len(seen),
        "redelivered": redelivered,
        "first": min(sequences),
        "last": max(sequences),
    }


async def main():
    flags = arguments()
    mode = {"publish": publish, "subscribe": subscribe}.get(flags.mode)
    if mode is None:
        raise ValueError(f"unknown mode {flags.mode}: publish or subscribe")
    reconnects = 0

    async def reconnected():
        nonlocal reconnects
        reconnects += 1
        report(event="reconnected")

    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=flags.ca)
    context.load_cert_chain(flags.cert, flags.key)
    connection = Nats()
    await connection.connect(
        flags.url,
        tls=context,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.1,
        reconnected_cb=reconnected,
        io_loop=asyncio.get_running_loop(),
    )
    client = Stan()
    lost = asyncio.get_running_loop().create_future()

    async def connection_lost(error):
        lost.set_exception(error)

    await client.connect(flags.cluster, flags.client, nats=connection, connect_timeout=10, conn_lost_cb=connection_lost)
    report(event="connected")
    work = asyncio.create_task(mode(client, flags))
    await asyncio.wait({work, lost}, return_when=asyncio.FIRST_COMPLETED)
    if lost.done():
        lost.result()
    report(event="done", reconnects=reconnects, **await work)
    await connection.close()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except Exception as error:  # the one line that the test shows
        report(event="error", error=repr(error))
        sys.exit(1)
