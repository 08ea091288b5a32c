// accuracy over a chunk of trained rows: whether the likeliest token is the one that follows
//   hits[i] = [argmax_v logits[i, v] = target[i]], the lowest index among equals; a row of NaN hits nothing
// logits: (rows, V), only read   targets: those of the gathered rows, chunk by chunk   hits: u32, likewise
// One workgroup of LANES (given by the op) a row. Whole numbers, so their sum has no order to keep.
// total: hits_total += sum of hits[0 .. step.loss_rows)
struct Params { rows: u32, columns: u32, chunk_start: u32 }
@group(0) @binding(0) var<uniform> params: Params;
// include: step.wgsl
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read> targets: array<u32>;
@group(0) @binding(4) var<storage, read_write> hits: array<u32>;
@group(0) @binding(5) var<storage, read> hits_in: array<u32>;
@group(0) @binding(6) var<storage, read_write> hits_total: array<u32>;

const LOWEST = -3.0e38;
const AT_ONCE = 4u;   // logits of an invocation: most of the time is waiting, and loops of some drivers may not be long
var<workgroup> largest: array<f32, LANES>;
var<workgroup> places: array<u32, LANES>;
var<workgroup> counts: array<u32, LANES>;

@compute @workgroup_size(LANES)
fn hit(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    if (row >= params.rows || params.chunk_start + row >= step.loss_rows) { return; }
    let base = row * params.columns;
    var most = LOWEST;
    var at = params.columns;
    for (var start = lane; start < params.columns; start += LANES * AT_ONCE) {
        var found: array<f32, AT_ONCE>;
        for (var i = 0u; i < AT_ONCE; i++) {
            found[i] = logits[base + min(start + i * LANES, params.columns - 1u)];
        }
        for (var i = 0u; i < AT_ONCE; i++) {
            let v = start + i * LANES;
            if (v < params.columns && found[i] > most) { most = found[i]; at = v; }
        }
    }
    largest[lane] = most;
    places[lane] = at;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half >>= 1u) {
        if (lane < half) {
            let other = largest[lane + half];
            let place = places[lane + half];
            if (other > largest[lane] || (other == largest[lane] && place < places[lane])) {
                largest[lane] = other;
                places[lane] = place;
            }
        }
        workgroupBarrier();
    }
    if (lane == 0u) { hits[params.chunk_start + row] = select(0u, 1u, places[0] == targets[params.chunk_start + row]); }
}

@compute @workgroup_size(LANES)
fn total(@builtin(local_invocation_index) lane: u32) {
    var sum = 0u;
    for (var i = lane; i < step.loss_rows; i += LANES) { sum += hits_in[i]; }
    counts[lane] = sum;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half >>= 1u) {
        if (lane < half) { counts[lane] += counts[lane + half]; }
        workgroupBarrier();
    }
    if (lane == 0u) { hits_total[0] += counts[0]; }
}
