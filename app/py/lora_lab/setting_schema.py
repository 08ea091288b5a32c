"""What a setting is: its bounds, choices and cautions, how its values are said. The settings stand in settings.py."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any

LARGEST = 1e30  # what is more by far would not go into the GPU's f32


@dataclass(frozen=True)
class Bounds:
    """Numbers from `least` to `most`; `above` and `below` leave out the bound itself."""

    least: float = -inf
    most: float = inf
    above: bool = False
    below: bool = False

    def hold(self, value: float) -> bool:
        """Whether the value lies within; nan never does."""
        enough = value > self.least if self.above else value >= self.least
        return enough and (value < self.most if self.below else value <= self.most)


@dataclass(frozen=True)
class Choice:
    """One of the values that a setting may have, with a word of help."""

    value: str
    help: str


@dataclass(frozen=True)
class Caution:
    """Values that can be used and deserve a second thought, and why; looks at `of`, or else at the setting itself."""

    words: str  # with {value} and {usual}
    above: float = inf
    least: float = inf  # like `above`, itself among them
    below: float = -inf
    of: str = ""

    def fits(self, value: float) -> bool:
        """Whether the value deserves the words."""
        return value > self.above or value >= self.least or value < self.below


@dataclass(frozen=True)
class Preset:
    """Several settings at once. `steps` is a factor of those that suit the data, `size` one of rank and alpha."""

    label: str
    help: str
    steps: float
    size: float


@dataclass(frozen=True)
class Setting:
    """One setting. `name` is its field in TrainSettings (or Sampling), `config` that of TrainConfig, LoraConfig or
    SamplingConfig, where it has another name or (None) no field.

    `bounds` are what the engine can do, and the command line takes; `form` is what the page takes, where that is less.
    """

    name: str
    label: str  # in plain words
    term: str  # what the field calls it, where that is something else
    help: str  # one line; short, for it stands below the page's field
    default: Any
    kind: type = float
    more: str = ""  # a second line of help, where there is room
    default_words: str = ""  # what the default does, where its value does not say it
    bounds: Bounds = Bounds()
    form: Bounds | None = None
    wanted: str = ""  # the page's word for a value out of bounds, with {least}, {most} and {usual}
    unit: str = ""
    usual: tuple[float, float] | None = None
    choices: tuple[Choice, ...] = ()
    cautions: tuple[Caution, ...] = ()
    config: str | None = ""
    flag: str | None = ""  # of the command line; "": made of the name; None: there is none
    metavar: str = ""
    on_page: bool = True
    percent: bool = False  # a fraction, which the page shows as per cent
    start: Any = ...  # what the page's field holds at first, where that is not the default; None: nothing
    empty: str = ""  # what an empty field means; settings without it may not be empty

    @property
    def option(self) -> str | None:
        """Its flag on the command line."""
        return f"--{self.name.replace('_', '-')}" if self.flag == "" else self.flag

    @property
    def config_name(self) -> str | None:
        """Its field in TrainConfig, LoraConfig or SamplingConfig."""
        return self.name if self.config == "" else self.config

    @property
    def form_name(self) -> str:
        """Its name on the page."""
        return self.name.replace("fraction", "percent") if self.percent else self.name

    @property
    def hint(self) -> str:
        """Its line of help on the page."""
        return f"{'% ' * self.percent}{self.help}{f'; empty: {self.empty}' if self.empty else ''}"

    @property
    def form_bounds(self) -> Bounds:
        """What the page takes."""
        return self.form or self.bounds

    @property
    def default_said(self) -> str:
        """The default in words."""
        shown = ("off", "on")[self.default] if self.kind is bool else plain(self.default)
        return self.default_words or f"{shown} {self.unit}".rstrip()

    @property
    def values(self) -> tuple[str, ...]:
        """The values to choose from."""
        return tuple(choice.value for choice in self.choices)

    @property
    def usual_words(self) -> str:
        """What is usual, e.g. `1e-5 to 2e-3`; "" where nothing is said of it."""
        return "" if self.usual is None else f"{plain(self.usual[0])} to {plain(self.usual[1])}"

    @property
    def first(self) -> Any:
        """What the page's field holds at first."""
        return self.default if self.start is ... else self.start

    def shown(self, value: Any) -> str:
        """Return a value, or a bound, as the page's field has it; "" where there is none."""
        if value is None or abs(value) >= LARGEST:
            return ""
        return plain(value * 100 if self.percent else value).replace(",", "")

    def problem(self, value: Any, most: float | None = None) -> str | None:
        """Return what the page says of a value that it cannot take; None when it can. `most` lowers the bound."""
        if self.kind is tuple:
            if not value:
                return "Choose one at least."
            are_known = isinstance(value, (tuple, list)) and all(one in self.values for one in value)
            return None if are_known else f"Only {', '.join(self.values)} can be chosen."
        if self.choices:
            return None if value in self.values else f"{', '.join(self.values[:-1])} or {self.values[-1]}."
        if self.kind is bool or (value is None and self.empty):
            return None
        bounds = self.form_bounds
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and bounds.hold(value) and (most is None or value <= most):
            return None
        least, highest = bounds.least, bounds.most if most is None else min(bounds.most, most)
        wanted = self.wanted or ("At least {least}." if highest == inf else "{least} to {most}.")
        per = 100 if self.percent else 1
        return wanted.format(least=plain(least * per), most=plain(highest * per), usual=self.usual_words)


def plain(value: Any) -> str:
    """Return a value as people write it: 8,192, 0.7, 2e-4, 1e30."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if 0 < abs(value) < 1e-2 or 1e6 <= abs(value) < inf:
        mantissa, exponent = f"{value:e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:,.6g}"


def small(text: str) -> str:
    """Return a sentence as it goes on within another."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]
