"""Plain mappings to frozen dataclasses, strictly: every key known, every value of the declared kind."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from typing import Any, Literal, TypeVar

from perceptic.errors import ConfigError

ConfigT = TypeVar("ConfigT")


def build(kind: type[ConfigT], value: Any, where: str) -> ConfigT:
    """Build a dataclass from a mapping of YAML values; nested dataclasses, tuples and dicts follow their annotations.

    Args:
        where: dotted path of the value, for messages; "" at the top.

    Raises:
        ConfigError: an unknown key (naming the nearest known one), a missing key or a value of the wrong kind.
    """
    if not isinstance(value, dict):
        raise ConfigError(f"{where or kind.__name__}: expected keys and values, not {value!r}")
    hints = typing.get_type_hints(kind)
    fields = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in value:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(fields)}"
            raise ConfigError(f"{_join(where, key)}: no such key; {hint}")
    for name, item in fields.items():
        required = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if required and name not in value:
            raise ConfigError(f"{_join(where, name)}: is missing")
    return kind(**{key: _convert(hints[key], content, _join(where, key)) for key, content in value.items()})


def set_path(mapping: Any, path: str, value: Any) -> None:
    """Set "a.b.0.c" inside nested dicts and lists in place; a missing last key is added, for `build` to judge.

    Raises:
        ConfigError: the path leads through something that is not there.
    """
    *parents, last = path.split(".")
    target = mapping
    for name in parents:
        target = _child(target, name, path)
    if isinstance(target, list):
        _child(target, last, path)
        target[int(last)] = value
    elif isinstance(target, dict):
        target[last] = value
    else:
        raise ConfigError(f"{path}: leads into {target!r}, which has no keys")


def _child(target: Any, name: str, path: str) -> Any:
    if isinstance(target, list) and name.isdigit() and int(name) < len(target):
        return target[int(name)]
    if isinstance(target, dict):
        return target.setdefault(name, {})
    raise ConfigError(f"{path}: '{name}' leads nowhere")


def _join(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)


def _convert(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return build(kind, value, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return _convert_tuple(arguments, value, where)
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: expected keys and values, not {value!r}")
        return {str(key): _convert(arguments[1], item, _join(where, key)) for key, item in value.items()}
    if origin is Literal:
        if value not in arguments:
            raise ConfigError(f"{where}: must be one of {', '.join(map(str, arguments))}, not {value!r}")
        return value
    if origin is types.UnionType:
        return None if value is None else _convert(arguments[0], value, where)
    return _convert_scalar(kind, value, where)


def _convert_tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if arguments == (str, ...) and isinstance(value, str):
        value = [value]  # --set data.images.shards=photos.tar
    if not isinstance(value, list):
        raise ConfigError(f"{where}: expected a list, not {value!r}")
    kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
    if len(kinds) != len(value):
        raise ConfigError(f"{where}: expected {len(kinds)} values, not {len(value)}")
    return tuple(_convert(kind, item, _join(where, i)) for i, (kind, item) in enumerate(zip(kinds, value, strict=True)))


def _convert_scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return value
    if kind is float and isinstance(value, str):
        value = _number(value)  # YAML 1.1 reads "1e-3" as text
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise ConfigError(f"{where}: expected {kind.__name__}, not {value!r}")


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
