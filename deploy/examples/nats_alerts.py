"""Alerts from the audit log on NATS: who was refused, and who asked for secrets. One JSON object a line.

    pip install nats-py==2.16.0
    python3 nats_alerts.py nats://nats-1.example.com:4222 audit_production_standard
"""
import asyncio, collections, json, sys
import nats

async def main(server, stream):
    client = await nats.connect(server)
    intents = await client.jetstream().pull_subscribe("audit.*.*.*.intent", durable="siem-alerts", stream=stream)
    seen = collections.OrderedDict()  # an event may be there twice, under one id
    while True:
        try:
            messages = await intents.fetch(100, timeout=5)
        except nats.errors.TimeoutError:
            continue
        for message in messages:
            if message.headers["ce-id"] not in seen:
                seen[message.headers["ce-id"]] = None
                request, decision = (json.loads(message.data)[key] for key in ("request", "decision"))
                what = request.get("object_ref", {}).get("resource")
                if decision["effect"] != "allow" or what == "secrets":
                    print(json.dumps({"who": request.get("user", {}).get("username"), "verb": request["verb"],
                                      "what": what, "uri": request["request_uri"], "effect": decision["effect"]}), flush=True)
            await message.ack()  # only now: what was not told is read again
        while len(seen) > 100_000:
            seen.popitem(last=False)

asyncio.run(main(*sys.argv[1:]))
