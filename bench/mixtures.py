"""In which form each tensor of a quantised file is kept, as llama-quantize chooses it.

A name of one form (q8_0, q4_k, bf16, …) is that form for all matrices; q4_k_m is the mixture that most files have:
Q4_K, and Q6_K for the embedding (which is the head too, where they are tied) and for half of the layers' v and down.
Rows that are no whole number of blocks of 256 fall back to a form with blocks of 32.
"""

from __future__ import annotations

from lora_lab.formats.tensors import BLOCK_SIZES, FORMS

Q4_K_M = "q4_k_m"
MIXTURES = (*FORMS, Q4_K_M)
FALLBACKS = {"q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0", "q2_k": "q4_0", "q3_k": "q4_0", "iq4_xs": "iq4_nl"}
HIGHER = ("v_proj", "down_proj")  # what the mixture keeps in more bits on some layers


def form_of(mixture: str, name: str, columns: int, num_layers: int, embedding: bool = False) -> str:
    """Return the form of the matrix `name` (as Hugging Face calls it), whose rows have `columns` numbers.

    `embedding`: the embedding or the head. K-quants take Q6_K there; Q4_1 takes Q8_0, as in the built-in model's file.
    """
    form = "q4_k" if mixture == Q4_K_M else mixture
    if embedding:
        form = "q6_k" if form in FALLBACKS else {"q4_1": "q8_0"}.get(form, form)
    elif mixture == Q4_K_M and name.split(".")[-2] in HIGHER and has_more_bits(int(name.split(".")[2]), num_layers):
        form = "q6_k"
    return FALLBACKS[form] if columns % BLOCK_SIZES.get(form, (1, 0))[0] else form


def has_more_bits(layer: int, num_layers: int) -> bool:
    """Say whether a layer is of those with Q6_K: the first and the last eighth, and every third between."""
    eighth = num_layers // 8
    return layer < eighth or layer >= 7 * num_layers // 8 or (layer - eighth) % 3 == 2
