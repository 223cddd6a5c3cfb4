import { closeSync, copyFileSync, openSync, readSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runWell } from "./tools.ts";
import {
  type Case,
  CLEAN,
  CRASH,
  ERST,
  ISA_PVPANIC,
  PANICKED,
  POWEROFF,
  PVPANIC,
  quit,
  SYSRQ,
} from "./triage-case.ts";
import { initramfs } from "./triage-guest.ts";

export const OVMF = { code: "/usr/share/OVMF/OVMF_CODE_4M.fd", vars: "/usr/share/OVMF/OVMF_VARS_4M.fd" };

/** Where ramoops lies in memory: `memmap=1M$128M`. */
export const RAMOOPS = { address: 128 << 20, size: 1 << 20 };

const crashKernel = [
  "dd if=/proc/vmcore of=/dev/null bs=64k count=16 2>/dev/null && echo memory of the other kernel is here",
  "reboot -f",
].join("\n");

/** What outlives the guest: pstore, dumps, a crash kernel. */
export const kept: readonly Case[] = [
  {
    ...PANICKED,
    name: "panic-dumped",
    deed: `${ISA_PVPANIC}; ${CRASH}`,
    qemu: [...PVPANIC, "-action", "panic=pause"],
    host: async (machine) => {
      await machine.hears("STOP");
      await machine.qmp.command("dump-guest-memory", { paging: false, protocol: "file:dump.elf" });
      await quit(machine);
    },
    events: ["GUEST_PANICKED pause", "STOP", "DUMP_COMPLETED"],
    says: SYSRQ,
    findings: ["panic", "guest-panicked", "panic"],
    agreements: ["console-and-event", "console-and-dump"],
  },
  {
    name: "hang-dumped",
    deed: "insmod /crash-spin-deaf.ko",
    host: async (machine) => {
      await machine.says(/tainting kernel/);
      await machine.shows("x /2xb $pc", /0xeb 0xfe/);
      await machine.qmp.command("stop");
      const protocol = "file:dump.kdump";
      await machine.qmp.command("dump-guest-memory", { paging: false, protocol, format: "kdump-zlib" });
      await quit(machine);
    },
    events: ["STOP", "DUMP_COMPLETED", "SHUTDOWN host-qmp-quit"],
    verdict: "guest-hang",
    rule: "hang",
    findings: ["endless-loop"],
    failsOn: "hang",
  },
  {
    ...PANICKED,
    name: "erst",
    deed: CRASH,
    append: "panic=-1",
    qemu: ["-no-reboot", ...ERST],
    events: ["SHUTDOWN guest-reset"],
    says: SYSRQ,
    findings: ["panic", "panic"],
    agreements: ["console-and-pstore", "reset-after-panic"],
  },
  {
    ...PANICKED,
    // The machine ends in the panic notifier, before the kernel writes a record.
    name: "erst-unwritten",
    deed: `${ISA_PVPANIC}; ${CRASH}`,
    qemu: [...PVPANIC, ...ERST],
    events: ["GUEST_PANICKED poweroff", "SHUTDOWN guest-panic"],
    says: SYSRQ,
    findings: ["panic", "guest-panicked"],
    agreements: ["stopped-before-record"],
  },
  {
    ...CLEAN,
    name: "erst-oops-outlived",
    deed: `insmod /crash-null-pointer.ko; sleep 1; ${POWEROFF}`,
    qemu: ERST,
    events: ["SHUTDOWN guest-shutdown"],
    findings: ["null-deref", "null-deref"],
    failsOn: "oops",
  },
  {
    ...PANICKED,
    name: "erst-read-again",
    deed: [
      "mount -t pstore pstore /sys/fs/pstore",
      `ls /sys/fs/pstore/* 2>/dev/null || ${CRASH}`,
      `cat /sys/fs/pstore/*; ${POWEROFF}`,
    ].join("\n"),
    append: "panic=1",
    qemu: ERST,
    events: ["RESET guest-reset", "SHUTDOWN guest-shutdown"],
    says: /^Panic#1 Part1/m,
    findings: ["panic", "panic"],
    agreements: ["console-and-pstore", "reset-after-panic"],
  },
  ...["ramoops", "ramoops-ecc"].map(
    (name): Case => ({
      ...PANICKED,
      name,
      deed: [
        "insmod /reed_solomon.ko",
        `insmod /ramoops.ko mem_address=${RAMOOPS.address} mem_size=${RAMOOPS.size} record_size=65536 ecc=${name === "ramoops" ? 0 : 1}`,
        CRASH,
      ].join("\n"),
      append: "panic=-1 memmap=1M$128M",
      qemu: (work) => [
        ...["-machine", "pc,memory-backend=ram", "-no-reboot"],
        ...["-object", `memory-backend-file,id=ram,size=144M,mem-path=${join(work, "ram.bin")},share=on`],
      ],
      afterwards: (place, work) => {
        const bytes = Buffer.alloc(RAMOOPS.size);
        const ram = openSync(join(work, "ram.bin"), "r");
        readSync(ram, bytes, 0, RAMOOPS.size, RAMOOPS.address);
        closeSync(ram);
        writeFileSync(join(place, "ramoops.bin"), bytes);
      },
      events: ["SHUTDOWN guest-reset"],
      says: SYSRQ,
      findings: ["panic", "panic"],
      agreements: ["console-and-pstore", "reset-after-panic"],
    }),
  ),
  {
    ...PANICKED,
    name: "efi",
    needs: "ovmf",
    deed: `insmod /efi-pstore.ko; ${CRASH}`,
    append: "panic=-1",
    before: ({ place }) => copyFileSync(OVMF.vars, join(place, "OVMF_VARS.fd")),
    qemu: [
      ...["-machine", "q35", "-no-reboot"],
      ...["-drive", `if=pflash,format=raw,readonly=on,file=${OVMF.code}`],
      ...["-drive", "if=pflash,format=raw,file=OVMF_VARS.fd"],
    ],
    memory: 256,
    events: ["SHUTDOWN guest-reset"],
    says: SYSRQ,
    findings: ["panic", "panic"],
    agreements: ["console-and-pstore", "reset-after-panic"],
  },
  {
    ...PANICKED,
    name: "kdump",
    needs: "kexec",
    deed: [
      ISA_PVPANIC,
      '/sbin/kexec -c -p /vmlinuz --initrd=/initrd.gz --command-line="console=ttyS0 tsc=unstable clocksource=jiffies nr_cpus=1 irqpoll reset_devices"',
      CRASH,
    ].join("\n"),
    append: "nokaslr crashkernel=160M crash_kexec_post_notifiers",
    qemu: [...PVPANIC, "-no-reboot"],
    memory: 448,
    before: ({ files, work, tree, kernel }) => {
      runWell("sh", [
        "-c",
        'cd "$0" && mkdir sbin && kexec=$(command -v kexec) && cp "$kexec" sbin/ && for lib in $(ldd "$kexec" | grep -o "/[^ ]*"); do cp -L --parents "$lib" .; done',
        files,
      ]);
      copyFileSync(kernel.vmlinuz, join(files, "vmlinuz"));
      writeFileSync(join(files, "initrd.gz"), initramfs(tree, crashKernel, join(work, "inner")));
    },
    events: ["GUEST_CRASHLOADED run", "SHUTDOWN guest-reset"],
    says: /sysrq triggered crash[\s\S]*memory of the other kernel is here/,
    findings: ["panic", "crash-loaded"],
    agreements: ["kdump-took-it"],
  },
];
