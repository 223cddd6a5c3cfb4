import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { findArtefacts } from "../src/io/artefacts.ts";
import { HEAD_BYTES, readHead } from "../src/io/head.ts";
import { recognise } from "../src/jobs/triage-artefact.ts";
import { groupByVm, sourcesOf } from "../src/jobs/triage-group.ts";
import { cpuTime } from "./support/cpu-time.ts";

let top: string;
beforeEach(() => {
  top = mkdtempSync(join(tmpdir(), "guestcore-artefacts-"));
});
afterEach(() => rmSync(top, { recursive: true }));

function put(name: string, contents: string | Buffer = "[    0.000000] Linux version 6.1\n"): string {
  const path = join(top, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, contents);
  return path;
}

const kindOf = async (name: string, contents: string | Buffer, named = false): Promise<string> => {
  const path = put(name, contents);
  return (await recognise({ path, root: top, within: named ? [] : [name], size: contents.length })).kind;
};

const at = (offset: number, text: string | Buffer, size = offset + text.length): Buffer => {
  const bytes = Buffer.alloc(size);
  Buffer.from(text).copy(bytes, offset);
  return bytes;
};
const rtas = Buffer.alloc(64);
rtas.set([6, 0x74, 0x10, 0, 0, 0, 0, 0x38], 0);
rtas.write("IBM\0", 20, "latin1");

const X64_EXCEPTION = "!!!! X64 Exception Type - 0E(#PF - Page-Fault)  CPU Apic ID - 00000000 !!!!\n";
const KERNEL = "[    0.000000] Linux version 6.1\n";

describe("what a file is", () => {
  test.each<[string, string | Buffer, string]>([
    ["x.log", "[    0.000000] Linux version 6.1\n", "console"],
    ["x.log", "<6>[    1.000000] foo\r\n", "console"],
    ["x.log", "Nov 20 22:14:07 host kernel: [   12.000001] foo\n", "console"],
    ["x.log", "SeaBIOS (version 1.16)\n", "console"],
    ["x.log", "\x1b[2J\x1b[01;01HBdsDxe: loading Boot0001\n", "console"],
    ["x.log", Buffer.from(`\ufeff${KERNEL}`, "utf16le"), "console"],
    ["x.log", Buffer.from(`\ufeff${KERNEL}`, "utf16le").swap16(), "console"],
    ["x.log", Buffer.from("\ufeffsome words\n", "utf16le"), "unknown"],
    ["x.log", Buffer.from(KERNEL, "utf16le"), "console"],
    ["x.log", Buffer.from(KERNEL, "utf16le").swap16(), "console"],
    ["x.jsonl", Buffer.from('{"QMP": {"version": {}}}\n', "utf16le"), "qmp"],
    ["x.log", Buffer.from("\ufeffqemu-kvm: terminating on signal 15\n", "utf16le"), "qemu-log"],
    ["x.txt", Buffer.from("qemu-kvm -m 512 -append 'panic=30'\n", "utf16le"), "cmdline"],
    ["x.bin", Buffer.from(KERNEL.replace(/./g, "$&\u0101"), "utf16le"), "unknown"],
    ["serial.log", "some words\n", "console"],
    ["notes.log", "some words\n", "unknown"],
    ["README.txt", "the kernel did panic: yes\n", "unknown"],
    ["x.jsonl", '{"QMP": {"version": {}}}\n', "qmp"],
    ["x.jsonl", '{"t": 0.1, "dir": ">", "msg": {"execute": "qmp_capabilities"}}\n', "qmp"],
    ["x.json", '{\n    "timestamp": {\n "seconds": 1}}\n', "qmp"],
    ["x.log", "2024-01-01: info : QEMU_MONITOR_RECV_EVENT: mon=0x1 event={}\n", "qmp"],
    ["x.log", "2024-09-30 16:30:49.506+0000: starting up libvirt version: 9.0.0\n", "libvirt-log"],
    ["x.log", "qemu-system-x86_64: terminating on signal 15\n", "qemu-log"],
    ["x.log", "KVM internal error. Suberror: 1\n", "qemu-log"],
    ["x.log", "kvm: -drive file=x: Could not open 'x': No such file or directory\n", "qemu-log"],
    ["x.log", "kvm: some words\n", "unknown"],
    ["x.log", "2024-11-26T01:02:03.000000Z qemu-system-x86_64: terminating on signal 15\n", "qemu-log"],
    ["x.log", "2024-11-26T01:02:03.000000Z web qemu-kvm: terminating on signal 15\n", "qemu-log"],
    ["x.log", "2024-11-26T01:02:03.000000Z build: qemu-kvm: failed\n", "unknown"],
    ["x.log", X64_EXCEPTION, "console"],
    ["x.log", "OpenSBI v1.4\n", "console"],
    ["x.log", "UEFI firmware (version 2024.02 built at 10:00:00)\n", "console"],
    ["x.log", `${"building\n".repeat(9000)}${X64_EXCEPTION}`, "console"],
    ["x.md", `An exception looks like this: ${X64_EXCEPTION}`, "unknown"],
    ["x.bin", at(4096, X64_EXCEPTION), "unknown"],
    ["x.txt", "qemu-system-x86_64 -m 512 -append 'panic=30'\n", "cmdline"],
    ["cmdline", "/usr/bin/qemu-system-x86_64\0-name\0a\0-m\x292\0", "cmdline"],
    ["dmesg-efi-179523104901001", "Panic#1 Part1\n", "pstore"],
    ["dmesg-erst-6985374587534.enc.z", Buffer.from([1, 2, 3]), "pstore"],
    ["dmesg-1.enc.z", Buffer.from([1, 2, 3]), "pstore"],
    ["console-ramoops-0", "x\n", "pstore"],
    ["vars.fd", at(40, "_FVH", 4096), "pstore"],
    ["erst", at(0, "ERSTSTOR", 8192), "pstore"],
    ["ramoops.bin", at(0, "DBGC\x10\0\0\0\x10\0\0\0", 8192), "pstore"],
    ["ramoops.bin", at(4096, "DBGC\x10\0\0\0\x10\0\0\0", 8192), "pstore"],
    ["rtas.bin", rtas, "rtas"],
    ["vmcore", at(0, "KDUMP   ", 8192), "dump"],
    ["vmcore", at(0, "makedumpfile\0\0\0\0", 8192), "dump"],
    ["disk.qcow2", at(0, "QFI\xfb", 512), "unknown"],
    ["empty", "", "unknown"],
    ["zeros", Buffer.alloc(8192), "unknown"],
  ])("%s with %j: %s", async (name, contents, kind) => expect(await kindOf(name, contents)).toBe(kind));

  const PANIC = "[    5.000000] Kernel panic - not syncing: x\n";
  test.each<[string, string, string, string | undefined]>([
    [
      "QEMU's standard error before it",
      `qemu-system-x86_64: warning: no CPUID\n${PANIC}`,
      "qemu-log",
      "console",
    ],
    ["QMP between", `{"QMP": {"version": {}}}\n${PANIC}`, "qmp", "console"],
    ["an event between", `${PANIC}{"timestamp": {"seconds": 1}, "event": "STOP"}\n`, "qmp", "console"],
    ["its command line before it", `qemu-system-x86_64 -m 512 -nographic\n${PANIC}`, "console", undefined],
    ["other JSON", `${PANIC}{"timestamp": "2026-01-01", "msg":"hello"}\n`, "console", undefined],
    ["a program's event", `${PANIC}[    3.0] audit: {"event":"x"}\n`, "console", undefined],
    [
      "QMP alone, with such a line in it",
      `{"return": "Linux version 6"}\n{"return": {}}\n`,
      "qmp",
      undefined,
    ],
    ["QEMU alone", "qemu-system-x86_64: terminating on signal 15\n", "qemu-log", undefined],
    ["words behind a command line", `qemu-kvm -m 5 ${"and so on ".repeat(20)}\n`, "unknown", undefined],
    ["lower-case events", '{"event": "login", "time": 5}\n', "unknown", undefined],
    ["events of a logger", '{"data": {}, "event": "SHUTDOWN", "time": 1795230000}\n', "qmp", undefined],
  ])("a console with more in it: %s", async (_, contents, kind, also) => {
    const path = put("x.txt", contents);
    const found = await recognise({ path, root: top, within: ["x.txt"], size: contents.length });
    expect([found.kind, found.also?.kind]).toEqual([kind, also]);
  });

  test("a text that somebody named is a console when it is nothing else", async () => {
    expect(await kindOf("notes.log", "some words\n", true)).toBe("console");
    expect(await kindOf("data.bin", Buffer.from(Array.from({ length: 256 }, (_, i) => i % 32)), true)).toBe(
      "unknown",
    );
  });

  test("a compressed file is what is in it, and no more of it is unpacked than that takes", async () => {
    const bomb = gzipSync(
      Buffer.concat([Buffer.from("[    0.000000] Linux version 6.1\n"), Buffer.alloc(2 ** 28)]),
    );
    expect(bomb.length).toBeLessThan(300_000);
    const path = put("bomb.gz", bomb);
    const start = cpuTime();
    expect((await recognise({ path, root: top, within: ["bomb.gz"], size: bomb.length })).kind).toBe(
      "console",
    );
    expect(cpuTime() - start).toBeLessThan(2000);
    expect((await readHead(path)).bytes.length).toBe(HEAD_BYTES);
  });

  test("nothing that a file begins with makes recognition fail, or slow", async () => {
    const pieces = [
      "[ 0",
      "\n",
      "{",
      '{"t":',
      "\x1f\x8b\x08",
      "(\xb5/\xfd",
      "\x7fELF",
      "KDUMP   ",
      "_FVH",
      "qemu",
      " ",
      "\0",
      "aaaa",
      "BUG: ",
      "a=b ",
    ];
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
          fc
            .array(fc.constantFrom(...pieces), { maxLength: 60 })
            .map((all) => Buffer.from(all.join(""), "latin1")),
        ),
        async (contents) => {
          expect(typeof (await kindOf("x", contents))).toBe("string");
        },
      ),
      { seed: 20261126, numRuns: 150 },
    );
    for (const piece of pieces) {
      const start = cpuTime();
      await kindOf("x", Buffer.from(piece.repeat(40_000), "latin1"));
      expect(cpuTime() - start).toBeLessThan(2000);
    }
  });
});

describe("looking through directories", () => {
  const names = (...paths: string[]) =>
    findArtefacts(paths).files.map(({ path }) => path.slice(top.length + 1));
  test("all files, sorted, each once", () => {
    for (const name of ["b/2", "b/1", "a/x/y", "c"]) put(name);
    symlinkSync(join(top, "c"), join(top, "d"));
    expect(names(top, join(top, "c"))).toEqual(["a/x/y", "b/1", "b/2", "c"]);
  });
  test("a loop of links is passed over", () => {
    put("a/x");
    symlinkSync(top, join(top, "a/loop"));
    symlinkSync("nowhere", join(top, "a/dangling"));
    const { files, passedOver } = findArtefacts([top]);
    expect(files.length).toBe(1);
    expect(passedOver.map((path) => path.slice(top.length))).toEqual(["/a/dangling", "/a/loop"]);
  });
  test("depth is bounded", () => {
    put(`${"d/".repeat(20)}x`);
    expect(findArtefacts([top])).toMatchObject({ files: [], beyond: "depth" });
  });
  test("what has a name that is not UTF-8 is told of, and nothing else is for it", () => {
    const bytes = (name: string) => Buffer.from(`${top}/${name}`, "latin1");
    writeFileSync(bytes("vm\xff.log"), "x");
    mkdirSync(bytes("vm\xfe"));
    writeFileSync(join(top, "\ufffd.log"), "x");
    const { files, unlisted, passedOver } = findArtefacts([top]);
    expect([files.map(({ path }) => path), passedOver]).toEqual([[join(top, "\ufffd.log")], []]);
    expect(unlisted.map(({ message }) => message)).toEqual([
      `cannot look at ${join(top, "vm\ufffd")}: its name is not UTF-8; rename it`,
      `cannot look at ${join(top, "vm\ufffd.log")}: its name is not UTF-8; rename it`,
    ]);
  });

  test("a directory that cannot be listed is told of, and the rest is read", () => {
    put("a/x");
    put("c/x");
    mkdirSync(join(top, "b"), { mode: 0 });
    chmodSync(top, 0o755);
    // root may list all.
    const isRoot = process.geteuid?.() === 0;
    if (isRoot) process.seteuid?.(65_534);
    try {
      const { files, unlisted } = findArtefacts([top]);
      expect(files.length).toBe(2);
      const message = `cannot list ${join(top, "b")}: permission denied`;
      expect(unlisted).toEqual([{ path: join(top, "b"), message }]);
      expect(() => findArtefacts([join(top, "b")])).toThrow(message);
    } finally {
      if (isRoot) process.seteuid?.(0);
    }
    if (isRoot) expect(findArtefacts([top]).unlisted).toEqual([]);
  });
  test("what is not there is an error that names it", () => {
    expect(() => findArtefacts([join(top, "nothing")])).toThrow(/cannot stat .*nothing: no such file/);
  });
});

describe("which VM a file belongs to", () => {
  async function groups(...paths: string[]): Promise<Record<string, string[]>> {
    const { files } = findArtefacts(paths.map((path) => join(top, path)));
    const recognised = await Promise.all(files.map(async (file) => [file, await recognise(file)] as const));
    return Object.fromEntries(
      groupByVm(sourcesOf(recognised)).map(({ name, sources }) => [
        name,
        sources.map(({ path }) => path.slice(top.length + 1)).toSorted(),
      ]),
    );
  }
  const qmp = '{"QMP": {}}\n';

  test("by what their names have in common", async () => {
    for (const vm of ["a", "isa-pause-dump"]) {
      put(`${vm}.console.log`);
      put(`${vm}.qmp.jsonl`, qmp);
      put(`${vm}.cmdline.txt`, "qemu-kvm -m 5");
    }
    expect(Object.keys(await groups(""))).toEqual(["a", "isa-pause-dump"]);
  });
  test("a directory for each VM, with its parts below", async () => {
    put("web/serial.log");
    put("web/qmp.jsonl", qmp);
    put("web/pstore/dmesg-efi-1", "Panic#1 Part1\n");
    put("web/pstore/dmesg-efi-2", "Panic#1 Part2\n");
    put("db/console.log");
    expect(await groups("")).toEqual({
      db: ["db/console.log"],
      web: ["web/pstore", "web/qmp.jsonl", "web/serial.log"],
    });
  });
  test("libvirt's layout joins across directories", async () => {
    put("log/libvirt/qemu/web.log", "2024-09-30 16:30:49.506+0000: starting up libvirt version: 9.0.0\n");
    put("lib/libvirt/qemu/dump/7-web-2024-09-30-16:31:00", at(0, "KDUMP   ", 8192));
    put("log/libvirt/qemu/db.log.1", "2024-09-30 16:30:49.506+0000: starting up libvirt version: 9.0.0\n");
    expect(Object.entries(await groups("")).map(([name, all]) => [name, all.length])).toEqual([
      ["web", 2],
      ["db", 1],
    ]);
  });
  test("Proxmox's logs of tasks by the number of the VM", async () => {
    const task = (type: string, vm: string) =>
      `pve/tasks/A/UPID:node1:0001A2B3:00C0FFEE:674A0000:${type}:${vm}:root@pam:`;
    put(task("qmstart", "101"), "kvm: -drive file=x: Could not open 'x': No such file or directory\n");
    put(task("qmstart", "102"), "kvm: -drive file=y: Could not open 'y': No such file or directory\n");
    expect(Object.keys(await groups(""))).toEqual(["101", "102"]);
  });
  test("pods of virt-launcher by the VM's name, a container's other pods not", async () => {
    put("pods/default_virt-launcher-web-1-abcde_0-1/guest-console-log/0.log");
    put("containers/virt-launcher-web-1-abcde_default_guest-console-log-0123.log");
    put("pods/default_virt-handler-abcde_0-1/console/0.log");
    expect(Object.entries(await groups("")).map(([name, all]) => [name, all.length])).toEqual([
      ["web-1", 2],
      ["default_virt-handler-abcde_0-1", 1],
    ]);
  });
  test("a sandbox by its id", async () => {
    const id = "0123456789abcdef".repeat(4);
    put(`run/vc/sbs/${id}/console.log`);
    put(`crash/${id}/vmcore-2024/vmcore`, at(0, "KDUMP   ", 8192));
    expect(Object.entries(await groups("")).map(([name, all]) => [name, all.length])).toEqual([[id, 2]]);
  });
  test("files named one by one are of one VM", async () => {
    put("x/serial.log");
    put("y/qmp.log", qmp);
    expect(await groups("x/serial.log", "y/qmp.log")).toEqual({
      "serial.log": ["x/serial.log", "y/qmp.log"],
    });
  });
  test("a nameless file joins the only VM with a name", async () => {
    put("web.console.log");
    put("OVMF_VARS.fd", at(40, "_FVH", 4096));
    put("notes", "nothing");
    expect(await groups("")).toEqual({ web: ["OVMF_VARS.fd", "notes", "web.console.log"] });
  });
  test("two of one name are told apart", async () => {
    put("a/web.console.log");
    put("b/web.console.log");
    expect(Object.keys(await groups("")).map((name) => name.slice(top.length))).toEqual(["/a/web", "/b/web"]);
  });
  test("systemd-pstore's own text is no second source", async () => {
    put("web/179523104/dmesg-efi-1", "Panic#1 Part1\n");
    put("web/179523104/dmesg.txt", "[    1.000000] x\n");
    expect(await groups("")).toEqual({ web: ["web/179523104"] });
  });
  test("names that are alike are of several VMs", async () => {
    for (const name of ["ansi.log", "ansi-dmesg.log", "build.log"]) put(name);
    expect(Object.keys(await groups(""))).toEqual(["ansi-dmesg", "ansi", "build"]);
  });
  test("a flat directory of logs has a VM for each", async () => {
    for (const name of ["db.log", "vm-a.log", "vm-b.log", "web.log.1", "web.qmp.jsonl"])
      put(name, name.includes("qmp") ? qmp : undefined);
    put("OVMF_VARS.fd", at(40, "_FVH", 4096));
    const found = await groups("");
    expect(found).toMatchObject({ db: ["db.log"], "vm-a": ["vm-a.log"], "vm-b": ["vm-b.log"] });
    expect(found.web).toEqual(["web.log.1", "web.qmp.jsonl"]);
  });
  test("a number tells VMs apart, and logs of one VM not", async () => {
    for (const name of ["vm1.log", "vm2.log", "xen.log", "x/boot1.log", "x/boot2.log"]) put(name);
    expect(Object.keys(await groups(""))).toEqual(["vm1", "vm2", "x", "xen"]);
  });
  test("all that is called after a VM is its", async () => {
    const names = ["web.console.log", "web-console.log", "web.serial", "web.dmesg.txt", "web.log"];
    for (const name of names) put(name);
    put("web.stderr.log", "qemu-kvm: terminating on signal 15\n");
    put("db.log");
    expect(await groups("")).toEqual({ db: ["db.log"], web: [...names, "web.stderr.log"].toSorted() });
  });
  test("files called after what they are belong to the directory, and so does one that is not", async () => {
    for (const name of ["console.log", "dmesg", "boot-2.log", "guest_console.0.log"]) put(`a/${name}`);
    put("b/whatever.log");
    put("b/qmp.jsonl", qmp);
    const found = await groups("");
    expect(Object.keys(found)).toEqual(["a", "b"]);
    expect(found.b).toEqual(["b/qmp.jsonl", "b/whatever.log"]);
  });
  test("a directory is no store by its name", async () => {
    put("pstore-one/console.log");
    put("pstore-two/console.log");
    put("three/pstore-old/dmesg-efi-1", "Panic#1 Part1\n");
    expect(Object.keys(await groups(""))).toEqual(["pstore-one", "pstore-two", "three"]);
  });
  test("no VM is without a name", async () => {
    put("a/console.log");
    put("b/console.log");
    put("notes", "nothing");
    expect(Object.keys(await groups(""))).toEqual(["a", "b", "files of no VM"]);
  });
  test("--vm puts all together", () => {
    expect(groupByVm([], "x")).toEqual([{ name: "x", sources: [] }]);
  });
});
