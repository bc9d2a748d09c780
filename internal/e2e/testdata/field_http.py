"""Sends requests with the library requests, as programs of the field do.

Reads a JSON list of {"method", "url", "body"?} and prints one of {"status", "type", "body"}.
"""

import json
import sys

import requests


def send(call):
    data = call.get("body")
    if data is None:
        answer = requests.request(call["method"], call["url"], timeout=60)
    else:
        answer = requests.request(call["method"], call["url"], json=json.loads(data), timeout=60)
    return {"status": answer.status_code, "type": answer.headers.get("Content-Type", ""), "body": answer.text}


if __name__ == "__main__":
    json.dump([send(call) for call in json.load(sys.stdin)], sys.stdout)
