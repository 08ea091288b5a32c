"""Every setting once: its names, default, bounds, a line of help, what is usual, and when it deserves a warning.

From here the command line takes its options, the page its fields, the worker its checks and warnings, the frozen
settings in config.py and in the protocol their defaults, and docs/settings.md its tables. Knows nothing of what a
setting does, and imports nothing, so that `lora-lab --help` answers at once and the build can read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Literal, get_args

# Names that linear layers have in the families here, in the order of the data; which of them a model has, its family
# says. The names are Hugging Face's; the seven of most families come first in what is chosen by default.
TARGET_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ALL_LAYERS = (
    "q_proj", "k_proj", "v_proj", "qkv_proj", "in_proj", "o_proj", "out_proj", "gate_proj", "up_proj", "gate_up_proj",
    "down_proj", "w1", "w3", "w2",
)  # fmt: skip

Schedule = Literal["cosine", "linear", "constant"]
Masking = Literal["assistant", "last", "all"]  # what of a conversation is trained
OnLong = Literal["truncate", "drop"]  # what becomes of a row that is longer than the maximum length
ChatFormat = Literal["auto", "plain", "chatml", "family"]  # of models without a chat template
Switch = Literal["auto", "on", "off"]  # as people say it
Auto = Literal["auto"] | bool  # as the engine takes it
SWITCH: dict[str, Auto] = {"auto": "auto", "on": True, "off": False}
MASKINGS: tuple[Masking, ...] = get_args(Masking)

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
            return None if set(value) <= set(self.values) else f"Only {', '.join(self.values)} can be chosen."
        if self.choices:
            return None if value in self.values else f"{', '.join(self.values[:-1])} or {self.values[-1]}."
        if self.kind is bool or (value is None and self.empty):
            return None
        bounds = self.form_bounds
        if bounds.hold(value) and (most is None or value <= most):
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


def _choices(values: Any, *words: str) -> tuple[Choice, ...]:
    names = values if isinstance(values, tuple) else get_args(values)
    return tuple(Choice(name, help) for name, help in zip(names, words, strict=True))


POSITIVE = Bounds(0, LARGEST, above=True)
NOT_NEGATIVE = Bounds(0, LARGEST)

# The rows of a table, not one argument a line.
# fmt: off
# --------------------------------------------------------------------------------------------------- the adapter

RANK = Setting(
    "rank", "Rank", "r", "Size of the adapter", 16, int,
    bounds=Bounds(1), form=Bounds(1, 512), usual=(4, 128),
    cautions=(
        Caution("A rank of {value:,} is beyond the usual {usual}: it takes memory and time, and seldom learns more.",
                above=128),
    ),
)
ALPHA = Setting(
    "alpha", "Alpha", "lora_alpha", "Often twice the rank", 32, more="the scale is alpha/rank",
    bounds=POSITIVE, wanted="Above {least}, and no more than {most}.",
    cautions=(
        Caution("An alpha of {value:g} is no usual one (often it is twice the rank): the adapter will drown the "
                "model.", least=1e6),
        Caution("The adapter's scale, alpha / rank, is {value:g}; usual are 0.5 to 4: each step moves the model that "
                "much more, and it may fall apart.", above=16, of="scale"),
        Caution("The adapter's scale, alpha / rank, is {value:g}; usual are 0.5 to 4: what it learns will hardly be "
                "heard.", below=0.1, of="scale"),
    ),
)
TARGETS = Setting(
    "targets", "Layers that get an adapter", "target modules", "All of them learn most; fewer take less memory.",
    TARGET_LAYERS, tuple, default_words="all-linear", metavar="LAYERS",
    choices=_choices(ALL_LAYERS, "query", "key", "value", "query, key and value", "convolution in", "attention out",
                     "attention or convolution out", "MLP gate", "MLP up", "MLP gate and up", "MLP down", "MLP gate",
                     "MLP up", "MLP down"),
)

# --------------------------------------------------------------------------------------------------- the run

STEPS = Setting(
    "steps", "Steps", "optimizer steps", "Improvements in all", None, int, default_words="as many as --epochs takes",
    bounds=Bounds(1), start=60,
)
EPOCHS = Setting(
    "epochs", "Passes", "epochs", "How often the run goes through all rows", 1.0, bounds=POSITIVE, usual=(1, 10),
    metavar="N", on_page=False,
    cautions=(
        Caution("{value:,.0f} passes through the same rows, where {usual} are usual: the model will say them by "
                "heart and unlearn other things.", above=50),
        Caution("{value:.0f} passes through the same rows: the model will learn them by heart.", above=20),
    ),
)
LEARNING_RATE = Setting(
    "learning_rate", "Learning rate", "lr", "Higher learns faster; too high, and the model babbles.", 2e-4,
    bounds=POSITIVE, form=Bounds(0, 1, above=True), usual=(1e-5, 2e-3), flag="--lr",
    wanted="Above {least} and at most {most}; usual are {usual}.",
    cautions=(
        Caution("A learning rate of {value:g} is hundreds of times the usual ({usual}): the model will fall apart at "
                "once.", least=1),
        Caution("A learning rate of {value:g} is very high: the model will probably fall apart.", above=5e-3),
        Caution("A learning rate of {value:g} is so low that hardly anything will change.", below=1e-6),
    ),
)
SCHEDULE = Setting(
    "schedule", "Schedule", "lr scheduler", "How the rate falls to the end", "cosine", str,
    choices=_choices(Schedule, "slowly, then fast, then slowly", "evenly", "not at all"),
)
WARMUP_STEPS = Setting(
    "warmup_steps", "Warm-up steps", "", "Rate climbs this long", None, int,
    default_words="5 % of the steps (constant: none)", bounds=Bounds(0), empty="5 %",
    wanted="{least} up to the number of steps.",
)
BATCH = Setting(
    "batch", "Rows a step", "batch size", "One step learns from these", 8, int, bounds=Bounds(1), config=None,
    flag=None, more="on the command line it is --batch times --accumulate",
)
ROWS_AT_ONCE = Setting(
    "rows_at_once", "Rows at once", "micro-batch", "Fewer need less memory", 1, int,
    more="the batch size of one forward and backward pass; a step's is this times --accumulate", bounds=Bounds(1),
    config="batch", flag="--batch", start=None, empty="auto",
)
ACCUMULATE = Setting(
    "accumulate", "Batches a step", "gradient accumulation", "Batches of --batch rows that make one step",
    BATCH.default, int, default_words=f"1 where --batch is given, else {BATCH.default}", bounds=Bounds(1),
    on_page=False,
)
PACKING = Setting(
    "packing", "Packing", "sample packing", "Saves padding; same result", "auto", str,
    more="lays the rows of a batch into one sequence", default_words="auto, where that saves enough",
    choices=_choices(Switch, "where that saves enough", "always", "never"),
)
MAX_LENGTH = Setting(
    "max_length", "Longest row", "max length", "Tokens; the rest is cut", 512, int, bounds=Bounds(2),
    more="at most the model's max sequence length; see --on-long",
    form=Bounds(8, 8192), wanted="{least} to {most} for this model.", unit="tokens",
)
RECOMPUTE = Setting(
    "recompute", "Compute layers twice", "gradient checkpointing",
    "Layers compute their activations again instead of keeping them", "auto", str, on_page=False,
    choices=_choices(Switch, "as few layers as --activation-memory needs", "all layers", "none"),
)
SAVE_MEMORY = Setting(
    "save_memory", "Save GPU memory", "gradient checkpointing", "Slower, each layer is computed twice", False, bool,
    config=None, flag=None, more="the command line has --recompute on",
)
ACTIVATION_MEMORY = Setting(
    "activation_memory", "Memory for activations", "", "What activations may take before layers are recomputed",
    4096, int, bounds=Bounds(1), unit="MiB", metavar="MIB", config="activation_budget_bytes", on_page=False,
)
WEIGHT_DECAY = Setting(
    "weight_decay", "Weight decay", "", "Pulls the adapter to zero", 0.0, bounds=NOT_NEGATIVE, form=Bounds(0, 1),
    usual=(0, 0.1),
)
MAX_GRAD_NORM = Setting(
    "max_grad_norm", "Clip", "max grad norm", "Largest gradient; 0 is off", 1.0, bounds=NOT_NEGATIVE,
    wanted="{least} (off) or more, up to {most}.",
)
SEED = Setting(
    "seed", "Seed", "", "Same seed, same result", 0, int, bounds=Bounds(0), form=Bounds(0, 2**53 - 1),
    wanted="{least} or more.",
)
SHUFFLE = Setting(
    "shuffle", "Shuffle the rows", "", "Another order in each pass", True, bool, flag="--no-shuffle",
    more="take the rows in the file's order",
)
VALIDATION_FRACTION = Setting(
    "validation_fraction", "Held back", "validation split", "of rows, to check on", 0.0,
    default_words="none", bounds=Bounds(0, 1, below=True), form=Bounds(0, 0.5), flag="--val-fraction", percent=True,
)

# --------------------------------------------------------------------------------------------------- the rows

MASKING = Setting(
    "masking", "What is learned", "loss mask", "What the model learns to write; it only reads the rest", "assistant",
    str, config=None, flag="--mask",
    choices=_choices(Masking, "The assistant's answers", "Only the last answer of each row",
                     "Everything, the questions too"),
)
ON_LONG = Setting(
    "on_long", "Rows that are too long", "truncation",
    "What becomes of them; one with nothing left to learn is always left out", "truncate", str, config=None,
    choices=_choices(OnLong, "Cut off their end", "Leave them out"),
)
CHAT_FORMAT = Setting(
    "chat_format", "Chat format", "chat template", "How a conversation is written for a model that brings no template",
    "auto", str, config=None, flag="--chat-template", metavar="FORMAT",
    default_words="auto, which is the model's own template where it has one",
    choices=_choices(ChatFormat,
                     "What suits the model: the family's own where its end of a turn is a token, else plain text",
                     "Messages are joined without markers; the model learns to go on with a text, in chat with yours",
                     "Turns stand between ChatML's markers; the model learns to answer, and where to end",
                     "The same with the markers of the family's instruct models"),
)

# --------------------------------------------------------------------------------------------------- replies

MAX_NEW_TOKENS = Setting(
    "max_new_tokens", "Longest reply", "max tokens", "Where it is cut off", 256, int, bounds=Bounds(1, 2**31),
    form=Bounds(1, 4096), unit="tokens",
)
TEMPERATURE = Setting(
    "temperature", "Temperature", "", "0 always takes the likeliest", 0.7, bounds=Bounds(0, 100), form=Bounds(0, 5),
    usual=(0.2, 1.2),
)
TOP_K = Setting(
    "top_k", "Top-k", "", "Number of likeliest words; 0 is all", 0, int, bounds=Bounds(0, 2**31),
)
TOP_P = Setting(
    "top_p", "Top-p", "nucleus", "Share of likeliest words; 1 is all", 1.0, bounds=Bounds(1e-6, 1),
    form=Bounds(0.01, 1), start=0.95,
)
MIN_P = Setting("min_p", "Min-p", "", "Drops the unlikely; 0 is off", 0.0, bounds=Bounds(0, 1))
REPETITION_PENALTY = Setting(
    "repetition_penalty", "Repetition penalty", "", "1 is off", 1.0, bounds=Bounds(0.01, 100), form=Bounds(0.5, 3),
    usual=(1, 1.3), start=1.1,
)
REPLY_SEED = Setting(
    "seed", "Seed", "", "Same seed, same reply", 0, int, bounds=Bounds(0), start=None, empty="random",
)
STRENGTH = Setting(
    "strength", "Strength", "adapter scale", "How strongly the adapter is applied", 1.0, bounds=NOT_NEGATIVE,
    form=Bounds(0, 2), config=None,
)

ADAPTER = (RANK, ALPHA, TARGETS)
RUN = (
    STEPS, EPOCHS, LEARNING_RATE, SCHEDULE, WARMUP_STEPS, BATCH, ROWS_AT_ONCE, ACCUMULATE, PACKING, MAX_LENGTH,
    RECOMPUTE, SAVE_MEMORY, ACTIVATION_MEMORY, WEIGHT_DECAY, MAX_GRAD_NORM, SEED, SHUFFLE, VALIDATION_FRACTION,
)
ROWS = (MASKING, ON_LONG, CHAT_FORMAT)
TRAINING = (*ADAPTER, *RUN, *ROWS)
SAMPLING = (MAX_NEW_TOKENS, TEMPERATURE, TOP_K, TOP_P, MIN_P, REPETITION_PENALTY, REPLY_SEED)
# fmt: on


def cautions(values: Mapping[str, float]) -> tuple[str, ...]:
    """Return what deserves a second thought before a run, one line a setting at most.

    `values` by the settings' names; `epochs` are the passes that the run makes, `scale` is the adapter's.
    """
    found = []
    for setting in TRAINING:
        for caution in setting.cautions:
            value = values.get(caution.of or setting.name)
            if value is not None and caution.fits(value):
                found.append(caution.words.format(value=value, usual=setting.usual_words))
                break
    return tuple(found)
