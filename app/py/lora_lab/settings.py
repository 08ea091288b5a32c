"""Every setting once: its names, default, bounds, a line of help, what is usual, and when it deserves a warning.

From here the command line takes its options, the page its fields, the worker its checks and warnings, the frozen
settings in config.py and in the protocol their defaults, and docs/settings.md its tables. Knows nothing of what a
setting does, and imports nothing, so that `lora-lab --help` answers at once and the build can read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from lora_lab.setting_schema import LARGEST, Bounds, Caution, Choice, Preset, Setting

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
Keep = Literal["best", "last"]  # which of a run's adapters is given out
Switch = Literal["auto", "on", "off"]  # as people say it
Auto = Literal["auto"] | bool  # as the engine takes it
SWITCH: dict[str, Auto] = {"auto": "auto", "on": True, "off": False}
MASKINGS: tuple[Masking, ...] = get_args(Masking)


def _choices(values: Any, *words: str) -> tuple[Choice, ...]:
    names = values if isinstance(values, tuple) else get_args(values)
    return tuple(Choice(name, help) for name, help in zip(names, words, strict=True))


# Beyond these a run can only fail, or never ends: told at once, not after an hour.
MOST_STEPS = 10**7
MOST_AT_ONCE = 2**20  # rows of a micro-batch or of a step, and what a rank may be

POSITIVE = Bounds(0, LARGEST, above=True)
NOT_NEGATIVE = Bounds(0, LARGEST)

# The rows of a table, not one argument a line.
# fmt: off
# --------------------------------------------------------------------------------------------------- the adapter

RANK = Setting(
    "rank", "Rank", "r", "Size of the adapter", 16, int,
    bounds=Bounds(1, MOST_AT_ONCE), form=Bounds(1, 512), usual=(4, 128),
    cautions=(
        Caution("A rank of {value:,} is beyond the usual {usual}: it takes memory and time, and seldom learns more.",
                above=128),
    ),
)
ALPHA = Setting(
    "alpha", "Alpha", "lora_alpha", "Often twice the rank", 32, more="the scale is alpha/rank",
    bounds=Bounds(0, 1e6, above=True), wanted="Above {least}, and no more than {most}.",
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
    bounds=Bounds(1, MOST_STEPS), start=60,
)
EPOCHS = Setting(
    "epochs", "Passes", "epochs", "How often the run goes through all rows", 1.0,
    bounds=Bounds(0, 1e6, above=True), usual=(1, 10),
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
    default_words="5 % of the steps (constant: none)", bounds=Bounds(0, MOST_STEPS), empty="5 %",
    wanted="{least} up to the number of steps.",
)
BATCH = Setting(
    "batch", "Rows a step", "batch size", "One step learns from these", 8, int, bounds=Bounds(1, MOST_AT_ONCE),
    config=None, flag=None, more="on the command line it is --batch times --accumulate",
)
ROWS_AT_ONCE = Setting(
    "rows_at_once", "Rows at once", "micro-batch", "Fewer need less memory", 1, int,
    more="the batch size of one forward and backward pass; a step's is this times --accumulate",
    bounds=Bounds(1, MOST_AT_ONCE),
    config="batch", flag="--batch", start=None, empty="auto",
)
ACCUMULATE = Setting(
    "accumulate", "Batches a step", "gradient accumulation", "Batches of --batch rows that make one step",
    BATCH.default, int, default_words=f"1 where --batch is given, else {BATCH.default}", bounds=Bounds(1, MOST_AT_ONCE),
    on_page=False,
)
PACKING = Setting(
    "packing", "Packing", "sample packing", "Saves padding; same result", "auto", str,
    more="lays the rows of a batch into one sequence", default_words="auto, where that saves enough",
    choices=_choices(Switch, "where that saves enough", "always", "never"),
)
MAX_LENGTH = Setting(
    "max_length", "Longest row", "max length", "Tokens; the rest is cut", 512, int, bounds=Bounds(2, 2**31),
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
    4096, int, bounds=Bounds(1, 2**24), unit="MiB", metavar="MIB", config="activation_budget_bytes", on_page=False,
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
CHECKPOINT_EVERY = Setting(
    "checkpoint_every", "Steps between checkpoints", "save steps", "A run that is cut off goes on from the last",
    None, int, more="0 keeps none", default_words="as often as costs less than 1 % of the run, each 30 s at most",
    bounds=Bounds(0, MOST_STEPS), config=None, empty="as often as costs 1 % of the time",
)
SAMPLE_EVERY = Setting(
    "sample_every", "Steps between answers", "eval generations", "While it learns, the model answers a few prompts",
    None, int, more="0 asks nothing", default_words="as often as costs less than 5 % of the run",
    bounds=Bounds(0, MOST_STEPS), config=None, empty="as often as costs 5 % of the time",
)
KEEP = Setting(
    "keep", "What is kept", "load best model at end", "Of a run that is checked on rows held back; the other one is "
    "kept beside it", "best", str, config=None,
    choices=_choices(Keep, "The adapter of the step with the lowest validation loss", "The adapter of the last step"),
)
PATIENCE = Setting(
    "patience", "Patience", "early stopping", "Checks without a lower loss after which the run ends; 0 is off", 0, int,
    bounds=Bounds(0, MOST_STEPS), usual=(2, 5), config=None,
    more="checks are made ten times in a run, and need rows held back",
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

# --------------------------------------------------------------------------------------------------- what else it does

MIX_NEUTRAL = Setting(
    "mix_neutral", "Everyday rows mixed in", "replay", "Share of a pass, up to a half; less is unlearned then", 0.0,
    more="questions and texts that come with the program, which are trained beside yours; others than --neutral "
    "measures on", bounds=Bounds(0, 0.5), usual=(0, 0.3), config=None,
)
NEUTRAL = Setting(
    "neutral", "Measure what else changed", "regression check",
    "After the run, on everyday questions and texts that are no part of it", "auto", str, config=None,
    choices=_choices(Switch, "On a GPU, not in software", "Always", "Never"),
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
    "seed", "Seed", "", "Same seed, same reply", 0, int, bounds=Bounds(0, 2**32 - 1), start=None, empty="random",
)
STRENGTH = Setting(
    "strength", "Strength", "adapter scale", "How strongly the adapter is applied", 1.0, bounds=NOT_NEGATIVE,
    form=Bounds(0, 2), config=None,
)

ADAPTER = (RANK, ALPHA, TARGETS)
RUN = (
    STEPS, EPOCHS, LEARNING_RATE, SCHEDULE, WARMUP_STEPS, BATCH, ROWS_AT_ONCE, ACCUMULATE, PACKING, MAX_LENGTH,
    RECOMPUTE, SAVE_MEMORY, ACTIVATION_MEMORY, WEIGHT_DECAY, MAX_GRAD_NORM, SEED, SHUFFLE, VALIDATION_FRACTION,
    CHECKPOINT_EVERY, SAMPLE_EVERY, KEEP, PATIENCE,
)
ROWS = (MASKING, ON_LONG, CHAT_FORMAT)
ELSE = (MIX_NEUTRAL, NEUTRAL)
TRAINING = (*ADAPTER, *RUN, *ROWS, *ELSE)
# What the page offers at one press, by how much of what suits the data: of its steps, and of the adapter's usual size.
PRESETS = (
    Preset("Quick", "A first look: a third of the steps, a small adapter", steps=1 / 3, size=1 / 2),
    Preset("Balanced", "What suits the data", steps=1, size=1),
    Preset("Thorough", "Twice the steps, a larger adapter: for when it has not learned enough", steps=2, size=2),
)
SAMPLING = (MAX_NEW_TOKENS, TEMPERATURE, TOP_K, TOP_P, MIN_P, REPETITION_PENALTY, REPLY_SEED)
# fmt: on


def problems(table: tuple[Setting, ...], values: Mapping[str, Any], most: Mapping[str, float]) -> dict[str, str]:
    """Return what the page says of values that it cannot take, by the settings' names on the page.

    `values` by the settings' names; one that is not among them is not looked at. `most` lowers bounds, by name too.
    """
    looked_at = [setting for setting in table if setting.name in values]
    said = {one.form_name: one.problem(values[one.name], most.get(one.name)) for one in looked_at}
    return {name: message for name, message in said.items() if message is not None}


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
