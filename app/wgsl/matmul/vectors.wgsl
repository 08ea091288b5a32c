// Factors of matmul_split read four at a time, as they lie: A_BY_K, a's rows are contiguous along the sum, else along m;
// B_BY_K, b's columns along the sum, else along n. What is contiguous is a multiple of four long and begins at one.
// The loads of a block have no branch between them: they are on their way together.
@group(0) @binding(2) var<storage, read> a: array<vec4f>;
@group(0) @binding(3) var<storage, read> b: array<vec4f>;
@group(0) @binding(5) var<storage, read> a2: array<vec4f>;
@group(0) @binding(6) var<storage, read> b2: array<vec4f>;

fn turned(x: Block) -> Block {
    return Block(vec4f(x.v0.x, x.v1.x, x.v2.x, x.v3.x), vec4f(x.v0.y, x.v1.y, x.v2.y, x.v3.y),
                 vec4f(x.v0.z, x.v1.z, x.v2.z, x.v3.z), vec4f(x.v0.w, x.v1.w, x.v2.w, x.v3.w));
}

fn four_of_a(second: bool, at: vec4u) -> Block {
    if (second) { return Block(a2[at.x / 4u], a2[at.y / 4u], a2[at.z / 4u], a2[at.w / 4u]); }
    return Block(a[at.x / 4u], a[at.y / 4u], a[at.z / 4u], a[at.w / 4u]);
}

fn four_of_b(second: bool, at: vec4u) -> Block {
    if (second) { return Block(b2[at.x / 4u], b2[at.y / 4u], b2[at.z / 4u], b2[at.w / 4u]); }
    return Block(b[at.x / 4u], b[at.y / 4u], b[at.z / 4u], b[at.w / 4u]);
}

// Rows i .. i + 3 of a at four terms (along the sum: neighbours); rows past the last repeat it.
fn a_block(p: Product, second: bool, row0: u32, terms: vec4u) -> Block {
    if (A_BY_K) {
        let rows = min(vec4u(row0) + vec4u(0u, 1u, 2u, 3u), vec4u(p.m - 1u));
        return four_of_a(second, rows * p.a_row + p.a_offset + terms.x);
    }
    return turned(four_of_a(second, terms * p.a_column + p.a_offset + min(row0, p.m - 4u)));
}

// Those terms of b at columns j .. j + 3.
fn b_block(p: Product, second: bool, column0: u32, terms: vec4u) -> Block {
    if (B_BY_K) {
        let columns = min(vec4u(column0) + vec4u(0u, 1u, 2u, 3u), vec4u(p.n - 1u));
        return turned(four_of_b(second, columns * p.b_column + p.b_offset + terms.x));
    }
    return four_of_b(second, terms * p.b_row + p.b_offset + min(column0, p.n - 4u));
}
