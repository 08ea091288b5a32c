// The matrices of an adapter in the order in which decode/layer.wgsl reads them, made once when the adapter is chosen.
//   a: (blocks of columns, units, width of a block) = A * scale * gain     b: (blocks of 8 rows, 8, ranks) = B
// The layers that share an input have `ranks` units each: their rank, rounded up to a multiple of 4. What has no A or B
// is zero: a unit past the rank, a layer without an adapter.
struct Params {
    rank: u32, ranks: u32, layers: u32, columns: u32, block: u32, scale: f32, normed: u32, out: u32, size: u32,
    at0: u32, at1: u32, at2: u32, start1: u32, start2: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> adapter: array<f32>;
@group(0) @binding(3) var<storage, read> gain: array<f32>;
@group(0) @binding(4) var<storage, read_write> packed: array<f32>;

const NONE = 0xffffffffu;   // in place of a layer's offset: it has no adapter

fn offset_of(layer: u32) -> u32 { return select(select(params.at0, params.at1, layer == 1u), params.at2, layer == 2u); }

@compute @workgroup_size(64)
fn a(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
     @builtin(num_workgroups) groups: vec3u) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if (i >= params.size) { return; }
    let unit = i / params.block % (params.layers * params.ranks);
    let column = i / (params.block * params.layers * params.ranks) * params.block + i % params.block;
    let at = offset_of(unit / params.ranks);
    let r = unit % params.ranks;
    var value = 0.0;
    if (at != NONE && r < params.rank) {
        value = params.scale * adapter[at + r * params.columns + column];
        if (params.normed == 1u) { value *= gain[column]; }
    }
    packed[params.out + i] = value;
}

@compute @workgroup_size(64)
fn b(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
     @builtin(num_workgroups) groups: vec3u) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if (i >= params.size) { return; }
    let row = i / params.ranks;
    let r = i % params.ranks;
    let layer = select(0u, 1u, row >= params.start1) + select(0u, 1u, row >= params.start2);
    let start = select(select(0u, params.start1, layer > 0u), params.start2, layer > 1u);
    let at = offset_of(layer);
    var value = 0.0;
    if (at != NONE && r < params.rank) { value = adapter[at + (row - start) * params.rank + r]; }
    packed[params.out + i] = value;
}
