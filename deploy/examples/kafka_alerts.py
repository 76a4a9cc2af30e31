"""Alerts from the audit log on Kafka: who was refused, and who asked for secrets. One JSON object a line.

    pip install confluent-kafka==2.16.1
    python3 kafka_alerts.py kafka-1.example.com:9092 audit.production.standard
"""
import collections, json, sys
from confluent_kafka import Consumer, KafkaException

consumer = Consumer({"bootstrap.servers": sys.argv[1], "group.id": "siem-alerts",
                     "auto.offset.reset": "earliest", "enable.auto.commit": False})
consumer.subscribe([sys.argv[2]])
seen = collections.OrderedDict()  # an event may be there twice, under one id
while True:
    message = consumer.poll(1.0)
    if message is None:
        continue
    if message.error():
        raise KafkaException(message.error())
    headers = {key: value.decode() for key, value in message.headers()}
    if headers["ce_type"] == "hoop.audit.intent" and headers["ce_id"] not in seen:
        seen[headers["ce_id"]] = None
        request, decision = (json.loads(message.value())[key] for key in ("request", "decision"))
        what = request.get("object_ref", {}).get("resource")
        if decision["effect"] != "allow" or what == "secrets":
            print(json.dumps({"who": request.get("user", {}).get("username"), "verb": request["verb"], "what": what,
                              "uri": request["request_uri"], "effect": decision["effect"]}), flush=True)
    consumer.commit(message, asynchronous=False)  # only now: what was not told is read again
    while len(seen) > 100_000:
        seen.popitem(last=False)
