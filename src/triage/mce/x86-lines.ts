/**
 * Lines of print_mce() (Linux arch/x86/kernel/cpu/mce/core.c; arch/x86/kernel/cpu/mcheck/mce.c up to 4.20, mce_64.c up to
 * 2.6.31), of drivers/edac/mce_amd.c, and of mcelog. Patterns are anchored and their repetitions bounded.
 */

/** "mce: " is of 3.17 and later, "[Hardware Error]: " of 2.6.33 and later. */
const HEAD = /^(?:mce: )?(?:\[Hardware Error\]: ?)?/;

/** The line without what marks it, and whether it was marked. */
export function hardwareError(text: string): { readonly text: string; readonly marked: boolean } {
  const head = HEAD.exec(text)![0];
  return { text: text.slice(head.length), marked: head.includes("Hardware Error") };
}

export interface CheckLine {
  readonly cpu: number;
  readonly exception: boolean;
  readonly mcgStatus: bigint | undefined;
  readonly bank: number | undefined;
  readonly status: bigint | undefined;
}

const CHECK =
  /^CPU ?(\d{1,5}): Machine Check( Exception)?: {1,4}([0-9a-f]{1,16}) Bank (\d{1,3}): ([0-9a-f]{1,16})\b/i;
/** 2.4 and 32-bit 2.6: the bank has a line of its own. */
const OLD_CHECK = /^CPU ?(\d{1,5}): Machine Check Exception: {1,4}([0-9a-f]{16})\s*$/i;
const OLD_BANK = /^Bank (\d{1,3}): ([0-9a-f]{16})(?:\[[0-9a-f]{16}\])?(?: at ([0-9a-f]{16}))?\s*$/i;

const word = (text: string): bigint => BigInt(`0x${text}`);

export function checkLine(text: string): CheckLine | undefined {
  const full = CHECK.exec(text);
  if (full !== null) {
    return {
      cpu: Number(full[1]),
      exception: full[2] !== undefined,
      mcgStatus: word(full[3]!),
      bank: Number(full[4]),
      status: word(full[5]!),
    };
  }
  const old = OLD_CHECK.exec(text);
  if (old === null) return undefined;
  return {
    cpu: Number(old[1]),
    exception: true,
    mcgStatus: word(old[2]!),
    bank: undefined,
    status: undefined,
  };
}

export function oldBankLine(
  text: string,
): { bank: number; status: bigint; address: bigint | undefined } | undefined {
  const found = OLD_BANK.exec(text);
  if (found === null) return undefined;
  const [, bank, status, address] = found;
  return {
    bank: Number(bank),
    status: word(status!),
    address: address === undefined ? undefined : word(address),
  };
}

/** Of the lines that follow the first one, what they say. */
export type DetailFacts = Readonly<Record<string, bigint | number | string | boolean>>;

const RIP = /^RIP( !INEXACT!)? ([0-9a-f]{2,4}):<([0-9a-f]{8,16})>(?: ?\{([^{}]{1,200})\})?/i;
const VALUES = /^TSC [0-9a-f]/;
const VALUE = /\b(TSC|ADDR|MISC|PPIN|SYND|IPID) ([0-9a-f]{1,16})\b/g;
const PROCESSOR =
  /^PROCESSOR (\d{1,5}):([0-9a-f]{1,8}) TIME (\d{1,12}) SOCKET (\d{1,5}) APIC ([0-9a-f]{1,8})(?: microcode ([0-9a-f]{1,8}))?/;
const REASON = /^Machine check: (.{1,120})$/;

export function detailLine(text: string): DetailFacts | undefined {
  const rip = RIP.exec(text);
  if (rip !== null) {
    const [, inexact, cs, address, symbol] = rip;
    return {
      exactRip: inexact === undefined,
      cs: `0x${cs}`,
      rip: word(address!),
      ...(symbol === undefined ? {} : { symbol }),
    };
  }
  if (VALUES.test(text)) {
    return Object.fromEntries(
      [...text.matchAll(VALUE)].map(([, name, value]) => [name!.toLowerCase(), word(value!)]),
    );
  }
  const processor = PROCESSOR.exec(text);
  if (processor !== null) {
    const [, vendor, cpuid, time, socket, apic, microcode] = processor;
    return {
      vendorCode: Number(vendor),
      cpuid: `0x${cpuid}`,
      time: Number(time),
      socket: Number(socket),
      apic: Number.parseInt(apic!, 16),
      ...(microcode === undefined ? {} : { microcode: `0x${microcode}` }),
    };
  }
  const reason = REASON.exec(text);
  return reason === null ? undefined : { reason: reason[1]!.trim() };
}

/** What the handler says without a place for it in the record. */
const NOISE =
  /^(?:Run the (?:above|message) through 'mcelog --ascii'|This is not a software problem!|Some CPUs didn't answer in synchronization|CPU may be affected|Please consult )/;
export const isNoise = (text: string): boolean => NOISE.test(text);

/** mce_amd.c: amd_decode_mce(). */
const AMD =
  /^CPU:(\d{1,5}) \(([0-9a-f]{1,3}):([0-9a-f]{1,3}):([0-9a-f]{1,3})\) MC(\d{1,3})_STATUS\[[\w|-]{1,100}\]: 0x([0-9a-f]{1,16})/;

export interface AmdLine {
  readonly cpu: number;
  readonly family: number;
  readonly model: number;
  readonly stepping: number;
  readonly bank: number;
  readonly status: bigint;
}

export function amdLine(text: string): AmdLine | undefined {
  const found = AMD.exec(text);
  if (found === null) return undefined;
  const [, cpu, family, model, stepping, bank, status] = found;
  return {
    cpu: Number(cpu),
    family: Number.parseInt(family!, 16),
    model: Number.parseInt(model!, 16),
    stepping: Number.parseInt(stepping!, 16),
    bank: Number(bank),
    status: word(status!),
  };
}

const AMD_ADDRESS = /^(?:Error Addr|\s?MC\d{1,3}_ADDR): 0x([0-9a-f]{1,16})/;
const AMD_IPID = /^IPID: 0x([0-9a-f]{1,16})(?:, Syndrome: 0x([0-9a-f]{1,16}))?/;
const AMD_TEXT =
  /^((?:[A-Z][\w ,./()-]{2,60}) (?:Ext\. Error Code: \d{1,3}|Error(?: \(node \d+\))?):? ?.{0,120})$/;

export function amdDetailLine(text: string): DetailFacts | undefined {
  const address = AMD_ADDRESS.exec(text);
  if (address !== null) return { addr: word(address[1]!) };
  const ipid = AMD_IPID.exec(text);
  if (ipid !== null) {
    return { ipid: word(ipid[1]!), ...(ipid[2] === undefined ? {} : { synd: word(ipid[2]) }) };
  }
  if (text.startsWith("cache level: ")) return {};
  const words = AMD_TEXT.exec(text);
  return words === null ? undefined : { decoded: words[1]!.trim() };
}

/** mcelog --ascii and its daemon's log. */
const MCELOG_CPU = /^CPU (\d{1,5}) (?:\d{1,5} )?BANK (\d{1,3})\b/;
const MCELOG_STATUS = /^STATUS ([0-9a-f]{1,16}) MCGSTATUS ([0-9a-f]{1,16})\s*$/;

export function mcelogPlace(text: string): { readonly cpu: number; readonly bank: number } | undefined {
  const found = MCELOG_CPU.exec(text);
  return found === null ? undefined : { cpu: Number(found[1]), bank: Number(found[2]) };
}

export function mcelogStatus(
  text: string,
): { readonly status: bigint; readonly mcgStatus: bigint } | undefined {
  const found = MCELOG_STATUS.exec(text);
  return found === null ? undefined : { status: word(found[1]!), mcgStatus: word(found[2]!) };
}
