/** States of devices as QEMU's vmstate writes and describes them (docs/devel/migration); nothing of src/. */

/** A field: numbers of `size` bytes each, bytes as they are, or structures. */
export type Field =
  | { readonly name: string; readonly size: number; readonly values: readonly (number | bigint)[] }
  | { readonly name: string; readonly bytes: Buffer }
  | { readonly name: string; readonly structs: readonly (readonly Field[])[]; readonly inline?: boolean };

export interface SavedDevice {
  readonly name: string;
  readonly kind: string;
  readonly instance: number;
  readonly version: number;
  readonly fields: readonly Field[];
  readonly subsections?: readonly { readonly name: string; readonly fields: readonly Field[] }[];
}

const fieldBytes = (field: Field): Buffer => {
  if ("bytes" in field) return field.bytes;
  if ("structs" in field) return Buffer.concat(field.structs.flat().map(fieldBytes));
  return Buffer.concat(
    field.values.map((value) =>
      Buffer.from(
        BigInt.asUintN(field.size * 8, BigInt(value))
          .toString(16)
          .padStart(2 * field.size, "0"),
        "hex",
      ),
    ),
  );
};

export const stateBytes = ({ fields, subsections = [] }: SavedDevice): Buffer =>
  Buffer.concat([
    ...fields.map(fieldBytes),
    ...subsections.flatMap(({ name, fields: inner }) => [
      Buffer.from([5, name.length]),
      Buffer.from(name),
      Buffer.from([0, 0, 0, 1]),
      ...inner.map(fieldBytes),
    ]),
  ]);

const array = (length: number) => (length === 1 ? {} : { array_len: length });

/** Alike elements of an array are described once; `size` is that of one. */
function fieldJson(field: Field): object {
  const { name } = field;
  if ("bytes" in field) return { name, type: "buffer", size: field.bytes.length };
  if ("values" in field) {
    return { name, ...array(field.values.length), type: `uint${8 * field.size}`, size: field.size };
  }
  const [first] = field.structs;
  const size = fieldBytes({ name, structs: [first!] }).length;
  const inner = { vmsd_name: "inner", version: 1, fields: first!.map(fieldJson) };
  const contents = field.inline === true ? { type: "tmp", ...inner } : { type: "struct", struct: inner };
  return { name, ...array(field.structs.length), ...contents, size };
}

export const stateJson = ({ name, kind, instance, version, fields, subsections }: SavedDevice): object => ({
  name,
  instance_id: instance,
  vmsd_name: kind,
  version,
  fields: fields.map(fieldJson),
  ...(subsections && {
    subsections: subsections.map((subsection) => ({
      vmsd_name: subsection.name,
      version: 1,
      fields: subsection.fields.map(fieldJson),
    })),
  }),
});

export interface SynthSegment {
  readonly selector: number;
  readonly base: bigint;
  readonly limit: number;
  readonly flags: number;
}

/** Registers of a CPU, in QEMU's order where there is one. */
export interface SynthCpu {
  /** rax rcx rdx rbx rsp rbp rsi rdi r8 … r15. */
  readonly regs: readonly bigint[];
  readonly rip: bigint;
  readonly rflags: bigint;
  /** es cs ss ds fs gs. */
  readonly segs: readonly SynthSegment[];
  readonly ldt: SynthSegment;
  readonly tr: SynthSegment;
  readonly gdt: SynthSegment;
  readonly idt: SynthSegment;
  /** CR0, CR2, CR3, CR4. */
  readonly cr: readonly [bigint, bigint, bigint, bigint];
  readonly efer: bigint;
  readonly kernelGsBase: bigint;
  readonly hflags?: number;
}

const one = (name: string, size: number, value: number | bigint): Field => ({ name, size, values: [value] });

/** The section "cpu": of an emulator of 64-bit processors, or of 32-bit ones. */
export function cpuDevice(instance: number, cpu: SynthCpu, bits: 32 | 64 = 64): SavedDevice {
  const word = bits / 8;
  const segment = ({ selector, base, limit, flags }: SynthSegment): readonly Field[] => [
    one("selector", 4, selector),
    one("base", word, base),
    one("limit", 4, limit),
    one("flags", 4, flags),
  ];
  const single = (name: string, value: SynthSegment): Field => ({ name, structs: [segment(value)] });
  const fpreg: readonly Field[] = [
    { name: "tmp", inline: true, structs: [[one("tmp_mant", 8, 0x55), one("tmp_exp", 2, 0x66)]] },
  ];
  const wide: readonly Field[] = [
    one("env.efer", 8, cpu.efer),
    one("env.star", 8, 1),
    one("env.kernelgsbase", 8, cpu.kernelGsBase),
  ];
  return {
    name: "cpu",
    kind: "cpu",
    instance,
    version: 12,
    fields: [
      { name: "env.regs", size: word, values: cpu.regs.slice(0, bits === 64 ? 16 : 8) },
      one("env.eip", word, cpu.rip),
      one("env.eflags", word, cpu.rflags),
      one("env.hflags", 4, cpu.hflags ?? 0),
      { name: "env.fpregs", structs: Array.from({ length: 8 }, () => fpreg) },
      { name: "env.segs", structs: cpu.segs.map(segment) },
      single("env.ldt", cpu.ldt),
      single("env.tr", cpu.tr),
      single("env.gdt", cpu.gdt),
      single("env.idt", cpu.idt),
      one("env.sysenter_cs", 4, 7),
      ...cpu.cr.map((value, i) => one(`env.cr[${[0, 2, 3, 4][i]}]`, word, value)),
      { name: "env.dr", size: word, values: [0, 1, 2, 3, 4, 5, 6, 7] },
      ...(bits === 64 ? wide : []),
    ],
    subsections: [{ name: "cpu/poll_control_msr", fields: [one("env.poll_control_msr", 8, 0)] }],
  };
}

export const cpuCommon = (instance: number, halted: boolean): SavedDevice => ({
  name: "cpu_common",
  kind: "cpu_common",
  instance,
  version: 1,
  fields: [one("halted", 4, halted ? 1 : 0), one("interrupt_request", 4, 0)],
});

/** The clock, whose memory has the sizes of the machine's below and above 4 GiB. */
export function clock(below: number, above: number): SavedDevice {
  const cmos = Buffer.alloc(128);
  cmos.writeUInt16LE(Math.min(65_535, Math.max(0, (below - 2 ** 20) / 1024)), 0x17);
  cmos.writeUInt16LE(Math.min(65_535, Math.max(0, Math.floor((below - 2 ** 24) / 65_536))), 0x34);
  cmos.writeUIntLE(Math.floor(above / 65_536) % 2 ** 24, 0x5b, 3);
  const fields: Field[] = [{ name: "cmos_data", bytes: cmos }, one("cmos_index", 1, 0)];
  return { name: "mc146818rtc", kind: "mc146818rtc", instance: 0, version: 3, fields };
}

/** The host bridge, with the seven registers of what is read below 1 MiB. */
export function hostBridge(kind: "mch" | "I440FX", pam: Buffer): SavedDevice {
  const config = Buffer.alloc(256);
  pam.copy(config, kind === "mch" ? 0x90 : 0x59);
  const parent: Field[] = [one("version_id", 4, 2), { name: "config[0]", bytes: config }];
  const fields: Field[] = [{ name: "parent_obj", structs: [parent] }, one("unused", 1, 0)];
  return { name: `0000:00:00.0/${kind}`, kind, instance: 0, version: 1, fields };
}

/** All of it memory. */
export const SHADOWED = Buffer.from([0x10, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11]);
