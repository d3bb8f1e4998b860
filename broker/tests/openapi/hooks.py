"""What Schemathesis does not know by itself."""

import json

import schemathesis

# What the API counts in bytes, where JSON Schema counts characters.
BYTES_MAX = 255


@schemathesis.serializer("application/x-ndjson")
def lines(_context, value):
    """A body that was made up, as one line of an import."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()


@schemathesis.deserializer("application/x-ndjson")
def last(_context, response):
    """The last line of an answer, which is the one that says whether it is whole."""
    found = response.content.decode().splitlines()
    return json.loads(found[-1]) if found else None


def texts(value):
    """Every text in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, member in value.items():
            yield key
            yield from texts(member)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


@schemathesis.hook
def filter_case(_context, case):
    """Leaves out what is short enough in characters and too long in bytes: no schema can say that."""
    given = [case.path_parameters, case.query, case.body]
    return not any(len(text.encode("utf-8", "replace")) > BYTES_MAX >= len(text) for text in texts(given))
