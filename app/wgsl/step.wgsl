// What changes from step to step, written before each replay. Python's half is ops/step.py: same names, same order.
struct Step {
    inv_tokens: f32,          // 1 / trained tokens of the whole accumulated batch
    learning_rate: f32,
    bias_correction1: f32,    // 1 - beta1^t
    bias_correction2: f32,    // 1 - beta2^t
    strength: f32,            // of the adapter: 1 in training, 0..1 in chat
    loss_rows: u32,           // trained tokens of this micro-batch
    past: u32,                // tokens in the KV cache before this call
    last_row: u32,            // row of the last real token of a prefill
    seed: u32,
    draw: u32,                // number of the token being drawn
    temperature: f32,         // 0: greedy
    top_k: u32,
    top_p: f32,
    min_p: f32,
    repetition_penalty: f32,
    slot: u32,                // of the ring that a training step leaves its loss in
}
@group(0) @binding(1) var<uniform> step: Step;
