"""Configs at random from the same seed: every field of Docker's structs, in any case, number and state."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping

Value = Callable[[], str]
DIFF_IDS = '"rootfs":{"type":"layers","diff_ids":@DIFF_IDS@}'
CHARACTERS = ["a", "B", "<", "&", "\\", '"', "\b", "\n", "\x7f", "é", "\u2028", "\U0001f600"]
LONE_SURROGATES = [r'"\ud800"', r'"\udc00\ud83d"', r'"\ud83d\ud83d\ude00"', r'"\/"']
ALSO_FOLDED = {"s": "ſ", "k": "\u212a"}
"""What Go takes for these letters in a key."""


def random_configs(count: int, *, seed: int) -> list[bytes]:
    """Config texts with `@DIFF_IDS@` for the layers' diff_ids; one in ten or so is refused by Docker."""
    maker = _Maker(random.Random(seed))
    return [maker.config().encode() for _ in range(count)]


class _Maker:
    def __init__(self, source: random.Random) -> None:
        self._random = source
        self._healthcheck = dict.fromkeys(("Interval", "Timeout", "StartPeriod", "Retries"), self.number)
        texts = ("Hostname", "User", "Image", "WorkingDir", "MacAddress", "StopSignal", "Unknown")
        self._fields: dict[str, Value] = {
            **dict.fromkeys(texts, self.text),
            **dict.fromkeys(("AttachStdin", "Tty", "ArgsEscaped", "NetworkDisabled"), self.boolean),
            **dict.fromkeys(("Env", "OnBuild"), self.array),
            **dict.fromkeys(("Cmd", "Entrypoint", "Shell"), self.argv),
            **dict.fromkeys(("ExposedPorts", "Volumes"), self.keys),
            "Labels": lambda: self.map(self.text),
            "Healthcheck": self.healthcheck,
            "StopTimeout": self.number,
        }
        texts = ("comment", "container", "docker_version", "author", "architecture", "variant", "os.version")
        self._top: dict[str, Value] = {
            **dict.fromkeys((*texts, "id", "parent"), self.text),
            **dict.fromkeys(("config", "container_config"), self.inner),
            "created": self.created,
            "os.features": self.array,
            "Size": self.number,
        }

    def config(self) -> str:
        fields = self.object(self._top, self._random.randrange(10))[1:-1]
        return "{" + ",".join(filter(None, ('"os":"linux"', fields, DIFF_IDS))) + "}"

    def text(self) -> str:
        if self._random.random() < 0.01:
            return "5"
        return self._random.choice([self.string(), self.string(), "null"])

    def string(self) -> str:
        if self._random.random() < 0.1:
            return self._random.choice(LONE_SURROGATES)
        content = "".join(self._random.choices(CHARACTERS, k=self._random.randrange(5)))
        return json.dumps(content, ensure_ascii=self._random.random() < 0.5)

    def number(self) -> str:
        if self._random.random() < 0.02:
            return "1.0"
        return self._random.choice(["0", "-0", "5", "-7", "null", "9223372036854775807"])

    def boolean(self) -> str:
        return self._random.choice(["true", "false", "null"])

    def created(self) -> str:
        return self._random.choice(['"2024-05-06T07:08:09.12Z"', '"2001-05-06T7:08:09+01:00"', "null"])

    def array(self) -> str:
        items = [self._random.choice([self.string(), "null"]) for _ in range(self._random.randrange(5))]
        return self._random.choice(["null", "[]", f"[{','.join(items)}]"])

    def argv(self) -> str:
        return self._random.choice([self.array(), self.string()])

    def map(self, value: Value) -> str:
        items = [f"{self.string()}:{value()}" for _ in range(self._random.randrange(4))]
        return self._random.choice(["null", "{}", f"{{{','.join(items)}}}"])

    def keys(self) -> str:
        return self.map(lambda: self._random.choice(["{}", "null"]))

    def healthcheck(self) -> str:
        fields = self.object({"Test": self.array, **self._healthcheck}, self._random.randrange(6))
        return self._random.choice(["null", "{}", fields])

    def inner(self) -> str:
        return self._random.choice([self.object(self._fields, self._random.randrange(12)), "null"])

    def object(self, fields: Mapping[str, Value], count: int) -> str:
        """`count` fields, some of them again."""
        names = self._random.choices(list(fields), k=count)
        return "{" + ",".join(f"{self.key(name)}:{fields[name]()}" for name in names) + "}"

    def key(self, name: str) -> str:
        if self._random.random() < 0.2:
            forms = [(c, c.upper(), c.lower(), ALSO_FOLDED.get(c.lower(), c)) for c in name]
            name = "".join(self._random.choice(choice) for choice in forms)
        return json.dumps(name, ensure_ascii=False)
