import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import type { Kernel } from "./lab-kernel.ts";
import { runWell } from "./tools.ts";
import { packed } from "./triage-guest.ts";

/** What a module of guest/crash.S does when it is loaded. */
const FAILURES = [
  ...["BUG", "WARN", "NULL_POINTER", "DIVIDE", "WILD_POINTER", "PANIC"],
  ...["SPIN", "SPIN_DEAF", "SLEEP", "TRIPLE_FAULT"],
];
const sources = join(import.meta.dirname, "guest");

/** Programs and modules that all guests share, as the beginning of their initramfs. */
export function buildTree(kernel: Kernel, place: string): Buffer {
  const tree = join(place, "initramfs");
  mkdirSync(join(tree, "bin"), { recursive: true });
  runWell("sh", ["-c", 'cp "$(command -v busybox)" bin/busybox'], { cwd: tree });
  runWell("install", ["-m", "755", join(sources, "triage-init"), "init"], { cwd: tree });
  cpSync(kernel.modules, tree, { recursive: true });
  const { size, init, vermagic } = moduleFacts(kernel.fwCfgModule);
  const macro = (name: string, text: string) => `.macro ${name}\n.asciz "${text}"\n.endm\n`;
  for (const failure of FAILURES) {
    const name = `crash-${failure.toLowerCase().replaceAll("_", "-")}`;
    writeFileSync(join(place, "crash.inc"), macro("VERMAGIC", `vermagic=${vermagic}`) + macro("NAME", name));
    const symbols = [`${failure}=1`, `THIS_MODULE_SIZE=${size}`, `INIT_OFFSET=${init}`];
    const args = symbols.flatMap((symbol) => ["--defsym", symbol]);
    runWell("as", ["-I", place, ...args, "-o", join(tree, `${name}.ko`), join(sources, "crash.S")]);
  }
  return gzipSync(packed(tree), { level: 1 });
}

/** What that kernel wants of a module, as one of its own tells. */
function moduleFacts(module: string): { size: string; init: string; vermagic: string } {
  const { stdout } = runWell("readelf", ["-SrW", module]);
  const size = / \.gnu\.linkonce\.this_module +PROGBITS +\w+ \w+ (\w+)/.exec(stdout)?.[1];
  const relocations = stdout.slice(stdout.indexOf("section '.rela.gnu.linkonce.this_module'"));
  const init = /^0*(\w+) +\w+ R_X86_64_64 +\w+ init_module \+ 0$/m.exec(relocations)?.[1];
  const vermagic = /vermagic=([^\0]+)/.exec(readFileSync(module, "latin1"))?.[1];
  if (size === undefined || init === undefined || vermagic === undefined)
    throw new Error(`no struct module in ${module}`);
  return { size: `0x${size}`, init: `0x${init}`, vermagic };
}
