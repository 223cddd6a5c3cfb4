import { describe, expect, test } from "vitest";
import {
  exitCodeName,
  exitDetail,
  ioExitOf,
  isEntryFailure,
  normalExitCode,
  stopsBeforeInstruction,
} from "../src/svm/exit-codes.ts";

const MINUS_ONE = 0xffff_ffff_ffff_ffffn;

describe("names", () => {
  test.each([
    [0x00n, "VMEXIT_CR0_READ"],
    [0x14n, "VMEXIT_CR4_WRITE"],
    [0x2fn, "VMEXIT_DR15_READ"],
    [0x37n, "VMEXIT_DR7_WRITE"],
    [0x40n, "VMEXIT_EXCP0"],
    [0x5fn, "VMEXIT_EXCP31"],
    [0x60n, "VMEXIT_INTR"],
    [0x61n, "VMEXIT_NMI"],
    [0x78n, "VMEXIT_HLT"],
    [0x7fn, "VMEXIT_SHUTDOWN"],
    [0x80n, "VMEXIT_VMRUN"],
    [0x8dn, "VMEXIT_XSETBV"],
    [0x8en, "VMEXIT_RDPRU"],
    [0x8fn, "VMEXIT_EFER_WRITE_TRAP"],
    [0x90n, "VMEXIT_CR0_WRITE_TRAP"],
    [0x9fn, "VMEXIT_CR15_WRITE_TRAP"],
    [0xa0n, "VMEXIT_INVLPGB"],
    [0xa5n, "VMEXIT_BUSLOCK"],
    [0xa6n, "VMEXIT_IDLE_HLT"],
    [0x400n, "VMEXIT_NPF"],
    [0x402n, "AVIC_NOACCEL"],
    [0x403n, "VMEXIT_VMGEXIT"],
    [MINUS_ONE, "VMEXIT_INVALID"],
    [MINUS_ONE - 3n, "VMEXIT_INVALID_PMC"],
    // KVM and QEMU wrote only the low half for a long time.
    [0xffff_ffffn, "VMEXIT_INVALID"],
  ])("%i is %s", (code, name) => expect(exitCodeName(code)).toBe(name));

  test("codes that the APM does not define have none", () => {
    for (const code of [0xa7n, 0x3ffn, 0x404n, 0x1_0000_0000n, 1n << 63n, MINUS_ONE - 4n]) {
      expect(exitCodeName(code)).toBeUndefined();
    }
  });

  test("only failures of VMRUN are negative", () => {
    expect(normalExitCode(MINUS_ONE)).toBe(-1);
    expect(normalExitCode(0x7bn)).toBe(0x7b);
    expect([MINUS_ONE, MINUS_ONE - 1n, 0x78n, 0xffff_fff0n].map(isEntryFailure)).toEqual([
      true,
      true,
      false,
      false,
    ]);
  });

  test("instructions stop before they are carried out, events do not", () => {
    expect([0x10n, 0x72n, 0x78n, 0x7bn, 0x7cn, 0x81n].every(stopsBeforeInstruction)).toBe(true);
    expect(
      [0x4en, 0x60n, 0x61n, 0x64n, 0x7dn, 0x7fn, 0x90n, 0x400n, MINUS_ONE].some(stopsBeforeInstruction),
    ).toBe(false);
  });
});

describe("EXITINFO", () => {
  test("IOIO: what pvpanic's OUT looks like", () => {
    expect(ioExitOf(0x505_0010n)).toEqual({
      port: 0x505,
      direction: "out",
      size: 1,
      string: false,
      repeated: false,
    });
    expect(exitDetail(0x7bn, 0x505_0010n, 0n)).toBe("OUT port 0x505, 8 bits");
    expect(exitDetail(0x7bn, 0x1f0_022dn, 0n)).toBe("REP INS port 0x1f0, 16 bits");
    expect(exitDetail(0x7bn, 0xcfc_0241n, 0n)).toBe("IN port 0xcfc, 32 bits");
  });

  test.each([
    [
      0x400n,
      0x1_0000_0006n,
      0xfee0_00b0n,
      "guest-physical 0xfee000b0: not present, write, user, final address",
    ],
    [
      0x400n,
      0x2_0000_0007n,
      0x1000n,
      "guest-physical 0x1000: protection, write, user, in the guest's page tables",
    ],
    [0x4en, 0x15n, 0x7fff_1000n, "#PF at 0x7fff1000: protection, read, user, fetch"],
    [0x4dn, 0x10n, 0n, "#GP, error code 0x10"],
    [0x46n, 0x1234n, 0n, "#UD"],
    [0x49n, 0n, 0n, "vector 9"],
    [0x7cn, 1n, 0n, "WRMSR"],
    [0x7cn, 0n, 0n, "RDMSR"],
    [0x10n, (1n << 63n) | 3n, 0n, "from rbx"],
    [0x03n, (1n << 63n) | 8n, 0n, "to r8"],
    [0x10n, 0n, 0n, undefined],
    [0x37n, 2n, 0n, "from rdx"],
    [0x75n, 0x80n, 0n, "INT 0x80"],
    [0x79n, 0xffff_8000_0000_1000n, 0n, "address 0xffff800000001000"],
    [0x7dn, 0x28n, (1n << 36n) | (1n << 44n) | 5n, "to TSS selector 0x28 by IRET, error code 0x5"],
    [0x401n, 0x2_0000_00fdn, 1n << 32n, "target not running, ICR 0x2000000fd"],
    [0x402n, (1n << 32n) | 0x80n, 0n, "write of APIC register 0x80"],
    [0x60n, 5n, 5n, undefined],
    [0x78n, 0n, 0n, undefined],
    [MINUS_ONE, 0n, 0n, undefined],
  ])("exit %i, %i, %i: %s", (code, info1, info2, detail) =>
    expect(exitDetail(code, info1, info2)).toBe(detail),
  );
});
