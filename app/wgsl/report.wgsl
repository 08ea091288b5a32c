// report: leaves a step's loss and gradient norm where the host can read them while later steps run, and stops those if
// one of the two is not a number: the host learns of it only afterwards, and what was learned must not be spoiled.
//   ring[2 slot], ring[2 slot + 1] = loss, norm;  used_norm = norm, or NaN from the first bad step on (adamw then rests)
// All by bits: compilers may assume that NaN does not occur. halted: (1), 0 at first.
struct Params { unused: u32 }
@group(0) @binding(0) var<uniform> params: Params;
// include: step.wgsl
@group(0) @binding(2) var<storage, read> loss: array<u32>;
@group(0) @binding(3) var<storage, read> norm: array<u32>;
@group(0) @binding(4) var<storage, read_write> ring: array<u32>;
@group(0) @binding(5) var<storage, read_write> used_norm: array<u32>;
@group(0) @binding(6) var<storage, read_write> halted: array<u32>;

fn is_bad(bits: u32) -> bool { return (bits & 0x7f800000u) == 0x7f800000u; }

@compute @workgroup_size(1)
fn leave() {
    if (is_bad(loss[0]) || is_bad(norm[0])) { halted[0] = 1u; }
    ring[2u * step.slot] = loss[0];
    ring[2u * step.slot + 1u] = norm[0];
    used_norm[0] = select(norm[0], 0x7fc00000u, halted[0] == 1u);
}
