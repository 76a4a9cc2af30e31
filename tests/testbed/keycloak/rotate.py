"""Rotates the signing keys of a realm, as an administrator does: a new one signs; or it and no other is published.

usage: rotate.py CA URL REALM PASSWORD add|drop-old
"""

import json
import ssl
import sys
import time
import urllib.parse
import urllib.request

PROVIDER = "org.keycloak.keys.KeyProvider"


def main(ca, url, realm, password, what):
    https = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca))
    client = urllib.request.build_opener(urllib.request.ProxyHandler({}), https)

    def call(method, path, body=None, form=None, token=None):
        data = urllib.parse.urlencode(form).encode() if form else json.dumps(body).encode() if body else None
        request = urllib.request.Request(url + path, data, method=method)
        if body:
            request.add_header("Content-Type", "application/json")
        if token:
            request.add_header("Authorization", "Bearer " + token)
        answer = client.open(request, timeout=60).read()
        return json.loads(answer) if answer else None

    login = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": password}
    token = call("POST", "/realms/master/protocol/openid-connect/token", form=login)["access_token"]
    components = f"/admin/realms/{realm}/components"
    keys = call("GET", components + "?type=" + PROVIDER, token=token)
    keys = [key for key in keys if key["providerId"] == "rsa-generated"]
    newest = max(int(key["config"]["priority"][0]) for key in keys)
    if what == "drop-old":
        for key in keys:
            if int(key["config"]["priority"][0]) < newest:
                key["config"].update(enabled=["false"], active=["false"])
                call("PUT", f"{components}/{key['id']}", body=key, token=token)
    new = {
        "name": f"rsa-{time.time_ns()}", "providerId": "rsa-generated", "providerType": PROVIDER,
        "config": {"priority": [str(newest + 1)], "enabled": ["true"], "active": ["true"], "algorithm": ["RS256"]},
    }
    call("POST", components, body=new, token=token)


main(*sys.argv[1:])
