"""A small application on nats-py: one scenario of core NATS a run. See ../README.md for the command
line, the scenarios and the output."""

import argparse
import asyncio
import json
import ssl
import sys
import time

import nats
from nats.errors import MaxPayloadError, NoRespondersError

# For an answer, on a busy machine, in seconds.
PATIENCE = 20
# Messages that are under way when a connection is drained.
DRAINED = 200

disconnects = 0
complaints = asyncio.Queue()
reconnected = asyncio.Queue()


def report(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def arguments():
    parser = argparse.ArgumentParser()
    for name in ("scenario", "url", "ca", "cert", "key", "user", "password", "token", "seed", "prefix"):
        parser.add_argument(f"--{name}")
    return parser.parse_args()


async def connect(flags):
    async def on_error(error):
        await complaints.put(str(error))

    async def on_disconnect():
        global disconnects
        disconnects += 1

    async def on_discovery():
        report("discovered")

    async def on_lame_duck():
        report("lame_duck")

    async def on_reconnect():
        report("reconnected")
        await reconnected.put(None)

    options = {}
    if flags.ca:
        options["tls"] = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=flags.ca)
        if flags.cert:
            options["tls"].load_cert_chain(flags.cert, flags.key)
    for option, value in (
        ("user", flags.user),
        ("password", flags.password),
        ("token", flags.token),
        ("nkeys_seed", flags.seed),
    ):
        if value:
            options[option] = value
    return await nats.connect(
        flags.url,
        connect_timeout=PATIENCE,
        # By default the library hides a refused login behind further attempts.
        allow_reconnect=flags.scenario != "login",
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.1,
        error_cb=on_error,
        disconnected_cb=on_disconnect,
        discovered_server_cb=on_discovery,
        lame_duck_mode_cb=on_lame_duck,
        reconnected_cb=on_reconnect,
        **options,
    )


async def round_trip(connection, subject):
    """Publishes to its own subscription."""
    subscription = await connection.subscribe(subject)
    await connection.publish(subject, b"there and back")
    await subscription.next_msg(timeout=PATIENCE)
    await subscription.unsubscribe()


async def login(connection, flags):
    await round_trip(connection, f"{flags.prefix}.login")
    return {}


async def messages(connection, flags):
    echo = await connection.subscribe(f"{flags.prefix}.echo")
    # The library keeps one value for each name.
    await connection.publish(f"{flags.prefix}.echo", headers={"Trace": "b: c", "Empty": ""})
    headed = await echo.next_msg(timeout=PATIENCE)

    large = b"0123456789abcdef" * (1 << 16)
    await connection.publish(f"{flags.prefix}.echo", large)
    echoed = await echo.next_msg(timeout=PATIENCE)
    too_large = False
    try:
        await connection.publish(f"{flags.prefix}.echo", large + b"!")
    except MaxPayloadError:
        too_large = True

    began = time.monotonic()
    nobody = False
    try:
        await connection.request(f"{flags.prefix}.nobody", timeout=PATIENCE)
    except NoRespondersError:
        nobody = True
    waited = time.monotonic() - began

    async def serve(message):
        await message.respond(b"hello " + message.data)

    await connection.subscribe(f"{flags.prefix}.service", cb=serve)
    answer = await connection.request(f"{flags.prefix}.service", b"python", timeout=PATIENCE)
    return {
        "trace": [headed.headers["Trace"]],
        "empty": "Empty" in headed.headers,
        "body": len(headed.data),
        "large": echoed.data == large,
        "too_large": too_large,
        "no_responders": nobody,
        "waited_ms": round(waited * 1000),
        "answer": answer.data.decode(),
    }


async def survive(connection, flags):
    ticks = await connection.subscribe(f"{flags.prefix}.ticks")
    await connection.publish(f"{flags.prefix}.ticks", b"before")
    before = await ticks.next_msg(timeout=PATIENCE)
    report("connected")
    await reconnected.get()
    await connection.publish(f"{flags.prefix}.ticks", b"after")
    after = await ticks.next_msg(timeout=PATIENCE)
    return {
        "ticks": [before.data.decode(), after.data.decode()],
        "server": connection.connected_url.netloc,
    }


async def drain(worker, flags):
    handled = 0

    async def handle(message):
        nonlocal handled
        await asyncio.sleep(0.001)
        handled += 1
        await message.respond(b"")

    await worker.subscribe(f"{flags.prefix}.work", cb=handle)
    await worker.flush()

    asker = await connect(flags)
    answers = await asker.subscribe(f"{flags.prefix}.answers")
    for _ in range(DRAINED):
        await asker.publish(f"{flags.prefix}.work", reply=f"{flags.prefix}.answers")
    await asker.flush()
    await worker.drain()
    answered = 0
    for _ in range(DRAINED):
        await answers.next_msg(timeout=PATIENCE)
        answered += 1
    await asker.close()
    return {"handled": handled, "answered": answered}


async def queue(connection, flags):
    received = 0

    async def handle(_):
        nonlocal received
        received += 1

    await connection.subscribe(f"{flags.prefix}.jobs", queue="workers", cb=handle)
    stop = await connection.subscribe(f"{flags.prefix}.stop")
    await connection.flush()
    report("subscribed")
    await stop.next_msg(timeout=PATIENCE)
    await connection.drain()
    return {"received": received}


async def permissions(connection, flags):
    await connection.subscribe(f"{flags.prefix}.hidden")
    first = await complaints.get()
    await connection.publish(f"{flags.prefix}.secret")
    second = await complaints.get()
    await round_trip(connection, f"{flags.prefix}.open")
    return {"complaints": [first, second], "disconnects": disconnects}


async def main():
    flags = arguments()
    scenarios = (login, messages, survive, drain, queue, permissions)
    scenario = {each.__name__: each for each in scenarios}.get(flags.scenario)
    if scenario is None:
        raise ValueError(f"unknown scenario {flags.scenario}")
    connection = await connect(flags)
    result = await scenario(connection, flags)
    await connection.close()
    report("done", **result)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except Exception as error:  # the one line that the test shows
        report("error", error=repr(error))
        sys.exit(1)
