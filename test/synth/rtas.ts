/**
 * RTAS error logs byte by byte, written from LoPAR ("RTAS Error/Event Return Format", "Platform Event Log Format,
 * Version 6") and QEMU hw/ppc/spapr_events.c, not from src/.
 */

export interface SynthRtas {
  readonly version?: number;
  /** 0 to 7. */
  readonly severity?: number;
  /** 0 to 3. */
  readonly disposition?: number;
  readonly initiator?: number;
  readonly target?: number;
  readonly type?: number;
  /** Undefined: no extended log. */
  readonly sections?: readonly Buffer[];
  /** Instead of the true length. */
  readonly extendedLength?: number;
}

export function rtasLog(spec: SynthRtas): Buffer {
  const { version = 6, severity = 3, disposition = 2, initiator = 1, target = 0, type = 0, sections } = spec;
  const fixed = Buffer.alloc(8);
  fixed[0] = version;
  fixed[1] = (severity << 5) | (disposition << 3) | (sections === undefined ? 0 : 4);
  fixed[2] = (initiator << 4) | target;
  fixed[3] = type;
  if (sections === undefined) return fixed;
  const head = Buffer.from("86008e00000000000000000049424d00", "hex");
  const body = Buffer.concat([head, ...sections]);
  fixed.writeUInt32BE(spec.extendedLength ?? body.length, 4);
  return Buffer.concat([fixed, body]);
}

export function section(id: string, body: Buffer, { version = 1, subtype = 0, length = 0 } = {}): Buffer {
  const head = Buffer.alloc(8);
  head.write(id, 0, "latin1");
  head.writeUInt16BE(length === 0 ? 8 + body.length : length, 2);
  head[4] = version;
  head[5] = subtype;
  return Buffer.concat([head, body]);
}

/** MC section: a type, its subtype byte, and both addresses. */
export function machineCheck(type: number, subtype: number, effective = 0n, logical = 0n): Buffer {
  const body = Buffer.alloc(32);
  body[8] = type;
  body[9] = subtype;
  body.writeBigUInt64BE(effective, 16);
  body.writeBigUInt64BE(logical, 24);
  return section("MC", body);
}

/** As rtasd.c prints one with rtasmsgs=on. */
export function printed(log: Buffer, event = 1, time = 1): string[] {
  const stamp = `[${time.toFixed(6).padStart(12)}] `;
  const lines: string[] = [];
  for (let i = 0; i < log.length; i += 16) {
    const words = log
      .subarray(i, i + 16)
      .toString("hex")
      .replace(/.{8}(?=.)/g, "$& ");
    lines.push(`${stamp}RTAS ${i / 16}: ${words}`);
  }
  return [
    `${stamp}RTAS: ${event} -------- RTAS event begin --------`,
    ...lines,
    `${stamp}RTAS: ${event} -------- RTAS event end ----------`,
  ];
}
