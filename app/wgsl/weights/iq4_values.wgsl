// What the nibbles of IQ4_NL and IQ4_XS stand for: 16 fixed values, as in formats/quants.py. Four nibbles, one in each
// byte, are looked up at once and bit by bit: a table would be read from memory for each of them.
// include: weights/bytes.wgsl
fn choose(mask: u32, off: u32, on: u32) -> u32 { return off ^ (mask & (off ^ on)); }

fn iq4_values(nibbles: u32) -> vec4f {
    let bit0 = (nibbles & 0x01010101u) * 255u;
    let bit1 = ((nibbles >> 1u) & 0x01010101u) * 255u;
    let bit2 = ((nibbles >> 2u) & 0x01010101u) * 255u;
    let bit3 = ((nibbles >> 3u) & 0x01010101u) * 255u;
    let below4 = choose(bit1, choose(bit0, 0x81818181u, 0x98989898u), choose(bit0, 0xadadadadu, 0xbfbfbfbfu));
    let below8 = choose(bit1, choose(bit0, 0xcfcfcfcfu, 0xddddddddu), choose(bit0, 0xeaeaeaeau, 0xf6f6f6f6u));
    let below12 = choose(bit1, choose(bit0, 0x01010101u, 0x0d0d0d0du), choose(bit0, 0x19191919u, 0x26262626u));
    let below16 = choose(bit1, choose(bit0, 0x35353535u, 0x45454545u), choose(bit0, 0x59595959u, 0x71717171u));
    return signed_bytes(choose(bit3, choose(bit2, below4, below8), choose(bit2, below12, below16)));
}
