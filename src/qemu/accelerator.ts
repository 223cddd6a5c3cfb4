import type { ProcessImage } from "../core/process.ts";
import { rangeAt, sizeOf } from "../core/ranges.ts";

/** What runs the guest's code, as far as it makes a difference to where its registers are. */
export type Accelerator = "kvm" | "tcg";

/** TCG's buffer for translated code has 1 MiB at least (`tcg/region.c`), its guard pages included. */
const MIN_TRANSLATED = 512 * 1024;
/** The same buffer with `split-wx=on`: a memfd mapped twice. */
const SPLIT_BUFFER = "/memfd:tcg-jit";

/**
 * The accelerator of a qemu process. A mapped vCPU shows KVM, the buffer for translated code TCG; the command line
 * counts where neither is seen. Xen, MSHV and others keep registers elsewhere too and show nothing: undefined, which
 * is not to be taken for TCG.
 */
export function accelerationOf(
  image: ProcessImage,
  commandLine: readonly string[] | undefined,
): Accelerator | undefined {
  if (image.files.some(({ path }) => path.startsWith("anon_inode:kvm-vcpu"))) return "kvm";
  const words = commandLine?.join(" ") ?? "";
  const asked = /(^| )--?enable-kvm( |$)|accel[= ]kvm/.test(words);
  // A core with NT_FILE would show KVM's vCPUs: QEMU went on to the next accelerator of the list.
  if (asked && image.files.length === 0) return "kvm";
  if (hasTranslatedCode(image)) return "tcg";
  return !asked && /accel[= ]tcg/.test(words) ? "tcg" : undefined;
}

/** Whether there is as much memory to write and execute as only translated code needs. */
function hasTranslatedCode({ files, mappings }: ProcessImage): boolean {
  if (files.some(({ path }) => path.startsWith(SPLIT_BUFFER))) return true;
  let size = 0;
  for (const mapping of mappings) {
    const anonymous = mapping.writable && mapping.executable && rangeAt(files, mapping.start) === undefined;
    if (anonymous) size += sizeOf(mapping);
  }
  return size >= MIN_TRANSLATED;
}
