"""A browser with a person before it: opens a page of Keycloak, fills in forms, follows links, until there is nothing to do.

usage: browser.py CA USER PASSWORD [--through IDENTITY_PROVIDER] PAGE

What it saw goes line by line into browser.log beside CA.
"""

import html.parser
import http.cookiejar
import os
import ssl
import sys
import urllib.parse
import urllib.request

STEPS_MAX = 12


class Page(html.parser.HTMLParser):
    """The forms and links of a page, and its text."""

    def __init__(self):
        super().__init__()
        self.forms, self.links, self.text, self.place = [], [], [], ""

    def handle_starttag(self, tag, attributes):
        attributes, self.place = dict(attributes), tag
        if tag == "form":
            self.forms.append((attributes.get("action", ""), attributes.get("method", "get").lower(), []))
        elif tag in ("input", "button") and self.forms and attributes.get("name"):
            self.forms[-1][2].append((attributes["name"], attributes.get("value", ""), attributes.get("type", "")))
        elif tag == "a":
            self.links.append(attributes.get("href", ""))

    def handle_data(self, data):
        if self.place not in ("script", "style"):
            self.text.append(data.strip())


def fields(form, user, password):
    """What a person sends: a name, a password, yes."""
    sent, pressed = [], False
    for name, value, kind in form:
        if name == "username":
            value = user
        elif name == "password":
            value = password
        elif kind in ("submit", "button"):
            if pressed or name == "cancel":
                continue
            pressed = True
        elif kind == "checkbox":
            continue
        sent.append((name, value))
    return urllib.parse.urlencode(sent).encode()


def main(ca, user, password, *rest):
    through = rest[1] if rest[0] == "--through" else None
    address = rest[-1]
    cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
    https = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca))
    browser = urllib.request.build_opener(urllib.request.ProxyHandler({}), https, cookies)
    log = open(os.path.join(os.path.dirname(ca), "browser.log"), "a", encoding="utf-8")
    print("open", user, address.split("?")[0], file=log, flush=True)
    answer = browser.open(address, timeout=60)
    for _ in range(STEPS_MAX):
        place, page = answer.geturl(), Page()
        page.feed(answer.read().decode())
        print("at", place.split("?")[0], " ".join(" ".join(page.text).split())[:200], file=log, flush=True)
        link = next((link for link in page.links if through and f"/broker/{through}/login" in link), None)
        if link:
            answer, through = browser.open(urllib.parse.urljoin(place, link), timeout=60), None
            continue
        if not page.forms:
            return
        action, method, form = page.forms[0]
        data, target = fields(form, user, password), urllib.parse.urljoin(place, action)
        if method == "get":
            data, target = None, f"{target}?{data.decode()}"
        answer = browser.open(target, data, timeout=60)
    sys.exit("the login has no end")


main(*sys.argv[1:])
