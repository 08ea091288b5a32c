"""Reading PEFT's adapter_config.json: what it says, and which of it this engine cannot do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from ..config import LoraConfig, ModelConfig
from .json_reader import JsonError, read_json
from .regex_cost import most_steps

CONFIG_FILE = "adapter_config.json"

# Fields that change nothing of what the adapter computes: who made it, with what, how it was trained or loaded.
_IGNORED_FIELDS = frozenset({
    "auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "peft_version", "lora_dropout",
    "fan_in_fan_out",  # only for Conv1D layers; PEFT itself ignores it for linear ones
    "megatron_core",  # only read together with megatron_config
    "qalora_group_size",  # only read together with use_qalora
    "layers_pattern",  # only read together with layers_to_transform
    # How the matrices were begun, and with what they were trained; what they became is in the file.
    "eva_config", "loftq_config", "corda_config", "lora_ga_config", "runtime_config",
})  # fmt: skip
# Fields that are read below.
_READ_FIELDS = frozenset({
    "peft_type", "task_type", "r", "lora_alpha", "target_modules", "exclude_modules", "use_rslora", "bias",
    "init_lora_weights", "layers_to_transform",
})  # fmt: skip
# Initialisations that leave the base weights alone. The others (PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA) change them, and
# the adapter only fits the changed ones.
_PLAIN_INITS = frozenset({"gaussian", "eva", "orthogonal"})

# PEFT's own values for fields that are left out.
_DEFAULT_RANK = 8
_DEFAULT_ALPHA = 8

# Of a regular expression that comes with an adapter; PEFT's and Unsloth's own stay far below.
_MAX_PATTERN_LENGTH = 1000
_MAX_PATTERN_STEPS = 1_000_000  # for each module's path

_OTHER_PATHS = ("model.embed_tokens", "lm_head")


def read_adapter_config(data: bytes, model: ModelConfig) -> tuple[LoraConfig | None, list[str]]:
    """Return the settings (None when they cannot be made out) and every problem of adapter_config.json.

    A field that is set to something which changes what the adapter computes, and that is not supported or not known,
    is a problem; the many fields that newer versions of PEFT write at neutral values are not.
    """
    try:
        config = read_json(data)
    except JsonError as error:
        return None, [f"{CONFIG_FILE} is not JSON: {error}"]
    if not isinstance(config, dict):
        return None, [f"{CONFIG_FILE} holds a {type(config).__name__}; wanted an object"]

    def wrong(name: str, wanted: str) -> str:
        return f"{CONFIG_FILE}: {name} is {_short(config.get(name))}; wanted {wanted}"

    problems = [
        wrong(name, "it off: it is not supported")
        for name, value in config.items()
        if name not in _IGNORED_FIELDS | _READ_FIELDS and value not in (None, False, "", [], {})
    ]
    if config.get("peft_type") != "LORA":
        problems.append(wrong("peft_type", '"LORA"'))
    if config.get("task_type") not in ("CAUSAL_LM", None):
        problems.append(wrong("task_type", '"CAUSAL_LM"'))
    if config.get("bias", "none") != "none":
        problems.append(wrong("bias", '"none"'))
    init = config.get("init_lora_weights", True)
    if not isinstance(init, bool) and str(init) not in _PLAIN_INITS:
        problems.append(wrong("init_lora_weights", 'true or "gaussian": others change the base model\'s weights too'))
    layers = config.get("layers_to_transform")
    if layers not in (None, []) and not (
        isinstance(layers, list) and all(i in layers for i in range(model.num_layers))
    ):
        problems.append(wrong("layers_to_transform", f"null or all of the {model.num_layers} layers"))

    # Without these there is nothing to hold the tensors against.
    unusable = []
    rank, alpha = config.get("r", _DEFAULT_RANK), config.get("lora_alpha", _DEFAULT_ALPHA)
    use_rslora = config.get("use_rslora") or False
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        unusable.append(wrong("r", "a whole number of at least 1"))
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not abs(alpha) < 1e30:
        unusable.append(wrong("lora_alpha", "a number"))
    if not isinstance(use_rslora, bool):
        unusable.append(wrong("use_rslora", "true or false"))
    target_modules, exclude_modules = (
        config.get("target_modules") or list(model.peft_targets),
        config.get("exclude_modules") or [],
    )
    for name, value in (("target_modules", target_modules), ("exclude_modules", exclude_modules)):
        if not _is_pattern(value):
            unusable.append(
                wrong(name, f"a list of names or a regular expression of up to {_MAX_PATTERN_LENGTH} letters")
            )
        elif isinstance(value, str) and not _is_quick(value, model):
            unusable.append(wrong(name, "a simpler regular expression: this one may take too long to match"))
    if unusable:
        return None, problems + unusable
    targets, target_problems = _resolve_targets(target_modules, exclude_modules, model)
    problems += [f"{CONFIG_FILE}: {problem}" for problem in target_problems]
    if not targets:
        return None, problems
    return LoraConfig(rank=rank, alpha=alpha, targets=targets, use_rslora=use_rslora), problems


def _resolve_targets(
    target_modules: str | list[str], exclude_modules: str | list[str], model: ModelConfig
) -> tuple[tuple[str, ...], list[str]]:
    """Return which of the model's linear layers PEFT would adapt, in their order, and what about them is not supported.

    PEFT's rules: a list holds whole module paths or their last parts, and names that the model does not have do
    nothing; a string is a regular expression for the whole path; "all-linear" is every linear layer but the output.
    """
    if isinstance(target_modules, str) and target_modules.lower() == "all-linear":
        target_modules = list(model.linear_names)
    linear = _linear_paths(model)
    paths = [*linear.values(), *_OTHER_PATHS]
    reached = {path for path in paths if _matches(target_modules, path) and not _matches(exclude_modules, path)}

    problems = []
    chosen = {name for (_, name), path in linear.items() if path in reached}
    targets = model.chosen_linears(chosen)
    if not reached:
        problems.append(f"target_modules {_short(target_modules)} reaches no layer of this model")
    for path in _OTHER_PATHS:
        if path in reached:
            problems.append(f"target_modules reaches {path}, which cannot be adapted here")
    left_out = [path for (_, name), path in linear.items() if name in targets and path not in reached]
    if left_out:
        problems.append(
            f"target_modules reaches {', '.join(targets)} in some layers and not in others; wanted the same in every "
            f"layer, but {len(left_out)} are left out, first {left_out[0]}"
        )
    return targets, problems


def _linear_paths(model: ModelConfig) -> dict[tuple[int, str], str]:
    return {(i, name): model.module_path(i, name) for i in range(model.num_layers) for name in model.names_in(i)}


def _is_quick(pattern: str, model: ModelConfig) -> bool:
    """Say whether each module's path is matched in no time: (\\w+)+! takes twice as long for each further letter."""
    try:
        return most_steps(pattern, [*_linear_paths(model).values(), *_OTHER_PATHS]) <= _MAX_PATTERN_STEPS
    except RecursionError:
        return False


def _is_pattern(value: Any) -> bool:
    if isinstance(value, str):
        if len(value) > _MAX_PATTERN_LENGTH:
            return False
        try:
            re.compile(value)
        except (re.error, RecursionError, OverflowError):
            return False
        return True
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _matches(pattern: str | Iterable[str], path: str) -> bool:
    if isinstance(pattern, str):
        return re.fullmatch(pattern, path) is not None
    return any(path == name or path.endswith(f".{name}") for name in pattern)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 80 else text[:77] + "..."
