/** Kernel logs in memory, and what VMCOREINFO says of them; written from the kernel's headers, not from src/. */

export interface SynthRecord {
  readonly time: bigint;
  readonly level: number;
  readonly text: string;
}

export interface SynthLog {
  /** Lies at `base`. */
  readonly bytes: Buffer;
  /** Lines of VMCOREINFO. */
  readonly keys: readonly string[];
}

const DESC = 24;
const INFO = 88;

/**
 * The ring buffer of 5.10 and later: 2^descBits descriptors, 2^textBits bytes of text, filled as the kernel does, so that
 * old records are overwritten and texts begin anew at the start.
 * @param base virtual address of the bytes
 */
export function ringLog(
  base: bigint,
  records: readonly SynthRecord[],
  { descBits = 4, textBits = 9 } = {},
): SynthLog {
  const count = 2 ** descBits;
  const textSize = 2 ** textBits;
  const [descs, infos, text] = [256, 256 + count * DESC, 256 + count * (DESC + INFO)];
  const bytes = Buffer.alloc(text + textSize);
  const first = 2n ** 62n - BigInt(count);
  const id = (n: number) => (first + BigInt(count) + BigInt(n)) % 2n ** 62n;
  let next = 0;
  const placed: { begin: number; end: number }[] = [];
  for (const [n, { time, level, text: words }] of records.entries()) {
    const size = words === "" ? 0 : Math.ceil((8 + words.length) / 8) * 8;
    let begin = next;
    // A text is never in two parts.
    if (size > 0 && Math.floor(begin / textSize) !== Math.floor((begin + size - 1) / textSize)) {
      next = Math.ceil(begin / textSize) * textSize;
    }
    const at = next % textSize;
    next += size;
    placed.push({ begin, end: next });
    const slot = Number(id(n) % BigInt(count));
    bytes.writeBigUInt64LE((2n << 62n) | id(n), descs + slot * DESC);
    if (size === 0) begin = 3;
    bytes.writeBigUInt64LE(BigInt(begin), descs + slot * DESC + 8);
    bytes.writeBigUInt64LE(BigInt(size === 0 ? 3 : next), descs + slot * DESC + 16);
    const info = infos + slot * INFO;
    bytes.writeBigUInt64LE(BigInt(n), info);
    bytes.writeBigUInt64LE(time, info + 8);
    bytes.writeUInt16LE(words.length, info + 16);
    bytes[info + 19] = level << 5;
    if (size > 0) {
      bytes.writeBigUInt64LE(id(n), text + at);
      bytes.write(words, text + at + 8, "latin1");
    }
  }
  const oldest = placed.findIndex(({ begin }, n) => records.length - n <= count && next - begin <= textSize);
  bytes.writeBigUInt64LE(base + 16n, 0);
  const prb = 16;
  bytes.writeUInt32LE(descBits, prb);
  bytes.writeBigUInt64LE(base + BigInt(descs), prb + 8);
  bytes.writeBigUInt64LE(base + BigInt(infos), prb + 16);
  bytes.writeBigUInt64LE(id(records.length - 1), prb + 24);
  bytes.writeBigUInt64LE(id(Math.max(0, oldest)), prb + 32);
  bytes.writeUInt32LE(textBits, prb + 48);
  bytes.writeBigUInt64LE(base + BigInt(text), prb + 56);
  const offsets = {
    "printk_ringbuffer.desc_ring": 0,
    "printk_ringbuffer.text_data_ring": 48,
    "prb_desc_ring.count_bits": 0,
    "prb_desc_ring.descs": 8,
    "prb_desc_ring.infos": 16,
    "prb_desc_ring.head_id": 24,
    "prb_desc_ring.tail_id": 32,
    "prb_data_ring.size_bits": 0,
    "prb_data_ring.data": 8,
    "prb_desc.state_var": 0,
    "prb_desc.text_blk_lpos": 8,
    "prb_data_blk_lpos.begin": 0,
    "prb_data_blk_lpos.next": 8,
    "printk_info.seq": 0,
    "printk_info.ts_nsec": 8,
    "printk_info.text_len": 16,
    "atomic_long_t.counter": 0,
  };
  return {
    bytes,
    keys: [
      `SYMBOL(prb)=${base.toString(16)}`,
      "SIZE(printk_ringbuffer)=80",
      `SIZE(prb_desc)=${DESC}`,
      `SIZE(printk_info)=${INFO}`,
      ...Object.entries(offsets).map(([name, value]) => `OFFSET(${name})=${value}`),
    ],
  };
}

/** The records of 3.5 to 5.9 in a buffer of `size` bytes, of which those that do not fit are overwritten. */
export function recordLog(
  base: bigint,
  records: readonly SynthRecord[],
  { size = 512, type = "printk_log" } = {},
): SynthLog {
  const head = 32;
  const bytes = Buffer.alloc(head + size);
  const kept: { at: number; length: number }[] = [];
  let next = 0;
  for (const { time, level, text } of records) {
    const length = Math.ceil((16 + text.length) / 4) * 4;
    if (next + length + 16 > size) {
      bytes.fill(0, head + next, Math.min(head + next + 16, bytes.length));
      next = 0;
    }
    while (kept.length > 0 && kept[0]!.at < next + length + 16 && kept[0]!.at >= next) kept.shift();
    const at = head + next;
    bytes.fill(0, at, at + length);
    bytes.writeBigUInt64LE(time, at);
    bytes.writeUInt16LE(length, at + 8);
    bytes.writeUInt16LE(text.length, at + 10);
    bytes[at + 15] = level << 5;
    bytes.write(text, at + 16, "latin1");
    kept.push({ at: next, length });
    next += length;
  }
  bytes.writeBigUInt64LE(base + BigInt(head), 0);
  bytes.writeUInt32LE(size, 8);
  bytes.writeUInt32LE(kept[0]?.at ?? 0, 12);
  bytes.writeUInt32LE(next, 16);
  const symbols = { log_buf: 0, log_buf_len: 8, log_first_idx: 12, log_next_idx: 16 };
  return {
    bytes,
    keys: [
      ...Object.entries(symbols).map(([name, at]) => `SYMBOL(${name})=${(base + BigInt(at)).toString(16)}`),
      `SIZE(${type})=16`,
      ...Object.entries({ ts_nsec: 0, len: 8, text_len: 10 }).map(
        ([name, value]) => `OFFSET(${type}.${name})=${value}`,
      ),
    ],
  };
}
