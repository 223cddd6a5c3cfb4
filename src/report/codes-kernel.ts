import type { Explanation } from "./explanation.ts";

/** Codes of what is said of a kernel. */
export const KERNEL_EXPLANATIONS: Readonly<Record<string, Explanation>> = {
  KRN001: {
    title: "VMCOREINFO and page tables disagree on phys_base",
    meaning:
      "Where the kernel's image lies in physical memory is said twice, differently. The page tables are believed.",
    cure: "Nothing, when the debugger opens the dump. Otherwise two kernels' data may be mixed: see KRN006.",
  },
  KRN002: {
    title: "VMCOREINFO and CR4 disagree on 4- or 5-level paging",
    meaning: "A vCPU runs with another number of page-table levels than the kernel says it uses.",
    cure: "Usual for a vCPU that has not been started, or whose registers are stale (REG001).",
  },
  KRN003: {
    title: "the page tables VMCOREINFO names do not work",
    meaning: "They are not all in memory, or do not map the kernel it describes.",
    cure: "Memory is missing (RAM001…RAM004), or the note belongs to a guest within this guest or an earlier kernel.",
  },
  KRN004: {
    title: "no direct map found",
    meaning:
      "PAGE_OFFSET is unknown, so PT_LOADs carry no kernel virtual addresses: crash still opens the vmcore, vmcore-dmesg and old drgn may not.",
    cure: "Usual for guests that do not run Linux, or whose page tables are missing.",
  },
  KRN005: {
    title: "the kernel's image is not mapped whole by any page tables found",
    meaning: "VMCOREINFO alone says where it lies; nothing confirms it.",
    cure: "Usual when all vCPUs run in user mode with page-table isolation and VMCOREINFO's tables are missing.",
  },
  KRN006: {
    title: "vCPUs run another kernel than VMCOREINFO describes",
    meaning: "A capture kernel after a crash has its own, or a note survived from before a reboot or kexec.",
    cure: "Choose the debug symbols by the release printed; look at the other kernel with its own vmlinux.",
  },
  KRN007: {
    title: "more of memory looks like VMCOREINFO than was looked at",
    meaning:
      "A kernel keeps two copies of its VMCOREINFO, programs may hold a few more. Beyond 256 places the search takes no new ones, so a better one may have been passed over.",
    cure: "Usual only where somebody filled memory with them. If the kernel shown is not the guest's, nothing it says of KASLR counts.",
  },
  KRN008: {
    title: "a file given for a kernel is not used",
    meaning:
      "The vmlinux or BTF named is another kernel's: its build-id differs, or the kernel's banner or first task is not where the file says. Or a file of a directory has no BTF that can be read.",
    cure: "Give the files of the very build that was dumped: compare uname -r and the build-id.",
  },
  KRN009: {
    title: "the kernel's own symbols are not all known",
    meaning:
      "The symbol table in a kernel's memory (kallsyms) is missing or cannot be read, or names functions only. What takes symbols to be found (tasks, modules, KVM's guests) is not shown.",
    cure: "Give the kernel's vmlinux with --vmlinux. Kernels built with CONFIG_KALLSYMS_ALL, as distributions build theirs, need none.",
  },
  KRN010: {
    title: "the kernel's own types are not known",
    meaning:
      "BTF, which says how a kernel's structures are laid out, is not in its memory: the kernel is older than 5.2, was built without CONFIG_DEBUG_INFO_BTF, or the dump lacks it.",
    cure: "Give them with --btf: a vmlinux with a section .BTF (pahole -J makes one of debug information), or /sys/kernel/btf of a machine that runs the same build.",
  },
  KRN011: {
    title: "the types of a module are not known",
    meaning:
      "The BTF of one of the kernel's modules is not in the dump, or damaged. Members of its structures are not known.",
    cure: "Give a copy of /sys/kernel/btf of a machine that runs the same build with --btf.",
  },
  KRN012: {
    title: "a list of the kernel could not be followed to its end",
    meaning:
      "Links of the list of tasks or modules are not in the dump, or lead nowhere. What could be reached from both ends is shown.",
    cure: "The machine stopped while it changed the list, or memory is missing or damaged.",
  },
  KRN013: {
    title: "the kernel has no such symbol or type",
    meaning:
      "No symbol or type of that name is among those known, or nothing is mapped at that address. Static functions that were inlined have no symbol; types of a module are known only while it is loaded.",
    cure: "Check the spelling; warnings before this one say whether symbols or types are missing.",
  },
};
