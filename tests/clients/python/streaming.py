"""A small application on asyncio-nats-streaming that uses every option of the library: one scenario of
streaming a run. See ../README.md for the command line, the scenarios and the output."""

import argparse
import asyncio
import json
import ssl
import sys
import time

from client import accept_loop_argument

accept_loop_argument()

from nats.aio.client import Client as Nats  # noqa: E402
from stan.aio.client import Client as Stan  # noqa: E402

# For whatever must come, on a busy machine, in seconds.
PATIENCE = 60


class Failure(Exception):
    """Something that should not be."""


def report(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def arguments():
    parser = argparse.ArgumentParser()
    for name in ("scenario", "url", "ca", "cert", "key", "cluster", "prefix"):
        parser.add_argument(f"--{name}")
    return parser.parse_args()


flags = arguments()
channel = f"{flags.prefix}.x"
nats_connections = []


async def nats_connection():
    options = {}
    if flags.ca:
        options["tls"] = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=flags.ca)
        options["tls"].load_cert_chain(flags.cert, flags.key)
    connection = Nats()
    await connection.connect(
        flags.url,
        name=flags.prefix,
        connect_timeout=PATIENCE,
        max_reconnect_attempts=-1,
        io_loop=asyncio.get_running_loop(),
        **options,
    )
    nats_connections.append(connection)
    return connection


async def fail_when_lost(error):
    report("error", error=f"lost: {error}")
    sys.exit(1)


async def connect(cluster=None, client=None, **more):
    """Connects with every option that there is."""
    options = {
        "connect_timeout": PATIENCE,
        "max_pub_acks_inflight": 8,
        "ping_interval": 2,
        "ping_max_out": 10,
        "conn_lost_cb": fail_when_lost,
        "loop": asyncio.get_running_loop(),
        **more,
    }
    stan = Stan()
    await stan.connect(cluster or flags.cluster, client or flags.prefix, nats=await nats_connection(), **options)
    return stan


async def refusal(what, attempt):
    try:
        await attempt
    except Exception as error:  # the library raises several kinds
        return str(error)
    raise Failure(f"{what} was not refused")


async def publish(stan, to, data=b""):
    """Waits until it is stored; the library leaves it to the application to look for a refusal."""
    ack = await stan.publish(to, data, ack_wait=PATIENCE)
    if ack.error:
        raise Failure(ack.error)


async def numbers(stan, first, last):
    """Publishes numbers as text; number n has sequence n."""
    for number in range(first, last + 1):
        await publish(stan, channel, str(number).encode())


class Collected:
    """A subscription whose messages are taken one by one."""

    def __init__(self, stan):
        self.stan = stan
        self.messages = asyncio.Queue()

    async def start(self, to=channel, **options):
        async def failed(error):
            report("error", error=str(error))
            sys.exit(1)

        self.subscription = await self.stan.subscribe(to, cb=self.messages.put, error_cb=failed, **options)
        return self

    async def next(self):
        return await asyncio.wait_for(self.messages.get(), PATIENCE)

    async def ack_up_to(self, last):
        """Takes and acknowledges messages up to this sequence; their sequences."""
        sequences = []
        while not sequences or sequences[-1] != last:
            message = await self.next()
            await self.stan.ack(message)
            sequences.append(message.seq)
        return sequences


async def subscribe(stan, to=channel, **options):
    return await Collected(stan).start(to, **options)


async def connect_and_close():
    stan = await connect()
    duplicate = await refusal("a second client of the same ID", connect())
    invalid = await refusal("an invalid client ID", connect(client="no.dots"))
    elsewhere = await refusal("another cluster", connect(cluster="no-such-cluster", connect_timeout=0.3))
    await publish(stan, channel)
    await stan.close()
    # The ID is free again.
    await (await connect()).close()
    return {"duplicate": duplicate, "invalid": invalid, "elsewhere": elsewhere}


async def publishing():
    stan = await connect()
    for _ in range(10):
        await publish(stan, channel, b"waits")
    acks = asyncio.Queue()
    for _ in range(200):
        await stan.publish(channel, b"does not wait", ack_handler=acks.put)
    guids = set()
    for _ in range(200):
        ack = await asyncio.wait_for(acks.get(), PATIENCE)
        if not ack.error:
            guids.add(ack.guid)
    refused = await refusal("a wildcard", publish(stan, f"{flags.prefix}.*"))
    last = await (await subscribe(stan, start_at="last_received")).next()
    await stan.close()
    return {"acked": len(guids), "refused": refused, "last": last.seq}


async def positions():
    stan = await connect()
    await numbers(stan, 1, 10)
    await asyncio.sleep(0.05)
    middle = time.time()
    # The library tells in whole seconds how long ago that was; what the request needs shifts it.
    await asyncio.sleep(5)
    await numbers(stan, 11, 20)
    subscriptions = {
        "new": await subscribe(stan, start_at="new_only", pending_limits=100),
        "first": await subscribe(stan, deliver_all_available=True),
        "raw": await subscribe(stan, start_at="first"),
        "sequence": await subscribe(stan, start_at="sequence", sequence=11),
        "last": await subscribe(stan, start_at="last_received"),
        "time": await subscribe(stan, start_at="time", time=middle),
    }
    await numbers(stan, 21, 21)
    found = {}
    for name, subscription in subscriptions.items():
        sequences = []
        while not sequences or sequences[-1] != 21:
            message = await subscription.next()
            expect_well_formed(message)
            sequences.append(message.seq)
        found[name] = [sequences[0], len(sequences)]
    await stan.close()
    return found


def expect_well_formed(message):
    age = time.time() - message.timestamp / 1e9
    proto, data = message.proto, str(message.sequence).encode()
    if message.data != data or proto.subject != channel or proto.redelivered or proto.CRC32 or abs(age) > 60:
        raise Failure(f"{message} of {age} s ago")


async def durable():
    stan = await connect()
    await numbers(stan, 1, 10)
    # With one message in flight the next one shows that the last acknowledgement was seen.
    options = {
        "durable_name": "d",
        "deliver_all_available": True,
        "manual_acks": True,
        "max_inflight": 1,
        "ack_wait": 20,
    }
    collected = await subscribe(stan, **options)
    await collected.ack_up_to(4)
    await collected.next()
    await collected.subscription.close()

    collected = await subscribe(stan, **options)
    await numbers(stan, 11, 11)
    first = await collected.next()
    await stan.ack(first)
    resumed = [first.seq, *await collected.ack_up_to(10)]
    duplicate = await refusal("a second subscription to a durable", subscribe(stan, **options))
    await collected.next()
    await stan.close()

    stan = await connect()
    collected = await subscribe(stan, **options)
    after_close = (await collected.next()).seq
    await collected.subscription.unsubscribe()
    collected = await subscribe(stan, **options)
    after_unsubscribe = (await collected.next()).seq
    await collected.subscription.unsubscribe()
    await stan.close()
    return {
        "resumed": resumed,
        "redelivered": first.proto.redelivered,
        "duplicate": duplicate,
        "after_close": after_close,
        "after_unsubscribe": after_unsubscribe,
    }


async def queue():
    stan = await connect()
    workers = [await subscribe(stan, queue="workers", max_inflight=5) for _ in range(2)]
    await numbers(stan, 1, 100)
    deadline = time.monotonic() + PATIENCE
    while sum(worker.messages.qsize() for worker in workers) < 100 and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    both = all(worker.messages.qsize() for worker in workers)
    jobs = {(await worker.next()).seq for worker in workers for _ in range(worker.messages.qsize())}

    def member(durable_name):
        return subscribe(
            stan, queue="lasting", durable_name=durable_name, deliver_all_available=True, manual_acks=True, max_inflight=1
        )

    first = await member("d")
    await first.ack_up_to(4)
    await first.next()
    await first.subscription.close()
    second = await member("d")
    resumed = (await second.next()).seq
    await second.subscription.unsubscribe()
    after_unsubscribe = (await (await member("d")).next()).seq
    refused = await refusal("a durable name with a colon", member("d:e"))
    await stan.close()
    return {
        "shared": len(jobs),
        "both": both,
        "resumed": resumed,
        "after_unsubscribe": after_unsubscribe,
        "refused": refused,
    }


async def redelivery():
    stan = await connect()
    await numbers(stan, 1, 6)
    # Acknowledged by the library: with one message in flight nothing would come after the first otherwise.
    auto = await subscribe(stan, deliver_all_available=True, max_inflight=1)
    collected = await subscribe(stan, deliver_all_available=True, ack_wait=1, max_inflight=3, manual_acks=True)
    first = [(await collected.next()).seq for _ in range(3)]
    again, then, redelivered = [], [], True
    # On a slow machine one may come a third time before another comes a second time.
    while len(again) < 3:
        message = await collected.next()
        await stan.ack(message)
        if message.seq not in again:
            redelivered = redelivered and message.proto.redelivered
            again.append(message.seq)
    while len(then) < 3:
        message = await collected.next()
        await stan.ack(message)
        if not message.proto.redelivered:
            then.append(message.seq)
    found = {
        "first": first,
        "again": sorted(again),
        "redelivered": redelivered,
        "then": then,
        "auto": [(await auto.next()).seq for _ in range(6)],
    }
    await stan.close()
    return found


async def leave():
    stan = await connect()
    first, second, third = [await subscribe(stan) for _ in range(3)]
    await numbers(stan, 1, 1)
    for collected in (first, second, third):
        await collected.next()
    if first.subscription.pending_queue_size:
        raise Failure("a message is left")
    await first.subscription.unsubscribe()
    await second.subscription.close()
    twice = await refusal("a second unsubscription", first.subscription.unsubscribe())
    await numbers(stan, 2, 2)
    await third.next()
    after = first.messages.qsize() + second.messages.qsize()
    refused = await refusal("a wildcard", subscribe(stan, f"{channel}.*"))
    await stan.close()
    return {"after": after, "twice": twice, "refused": refused}


async def lost():
    """Freezes of the server are the test's: after `ready` nothing is answered any more."""
    reason = asyncio.get_running_loop().create_future()

    async def told(error):
        reason.set_result(str(error))

    stan = await connect(ping_interval=1, ping_max_out=3, conn_lost_cb=told)
    report("ready")
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            await stan.publish(channel, b"", ack_wait=0.5)
        except asyncio.TimeoutError as error:
            return {"timeout": type(error).__name__, "lost": await asyncio.wait_for(reason, PATIENCE)}
        await asyncio.sleep(0.02)
    raise Failure("everything is acknowledged")


SCENARIOS = {
    "connect": connect_and_close,
    "publish": publishing,
    "positions": positions,
    "durable": durable,
    "queue": queue,
    "redelivery": redelivery,
    "leave": leave,
    "lost": lost,
}


async def main():
    report("done", **await SCENARIOS[flags.scenario]())
    for connection in nats_connections:
        await connection.close()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except Exception as error:  # the one line that the test shows
        report("error", error=repr(error))
        sys.exit(1)
