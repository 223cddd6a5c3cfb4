/**
 * Whether a line belongs to a report rather than being the next thing that happened. Only how far a report goes rests on
 * it; files of Linux unless said otherwise.
 */
const PARTS: readonly RegExp[] = [
  // Indented: frames, register rows, what a headline goes on with.
  /^\s/,
  // arch/*/kernel/{process,dumpstack,traps}*.c: registers, code, stacks
  /^(?:[ER]?(?:[A-DS][XIP]|[SBI]P|FLAGS)|R\d{1,2}|[CDEFGS]S|CR\d|DR\d|XMM\d+|PKRU|Code|Stack|Call [Tt]race|Backtrace|PGD|P4D)\b/,
  /^(?:pstate|psr|pc|lr|sp|ip|fp|x\d{1,2}|r\d{1,2}|PC|LR|Process|Exception stack|Flags|Control|Register|epc|gp|ra|tp|[ats]\d{1,2}|status)\b *[ :(=i]/,
  /^(?:NIP|LR|REGS|MSR|CFAR|GPR\d\d|XER|DAR|IRQMASK|LE|BE|Instruction dump|Faulting instruction|--- interrupt)\b/,
  /^(?:Krnl|Failing address|Fault in|AS:|Last Breaking|User process fault|User (?:PSW|GPRS|Code))/,
  /^(?:Modules linked in|Hardware name|Tainted|CPU: \d|Pid: \d|CPU#?\d+|Comm: |last sysfs|Oops|#PF|Mem abort|Data abort|user pgtable|swapper pgtable|\[[0-9a-f]{8,16}\]|ESR|FAR|Task stack|IRQ stack|Overflow stack)/,
  /^\(?\[<?[0-9a-f]{8,16}>?\]/,
  /^(?:<\/?(?:TASK|IRQ|NMI|SOFTIRQ|#DF|EOI|ENTRY|EXCEPTION)|note: |irq event stamp|hardirqs last|softirqs last|---\[|={10}|-{10}|\*{3})/,
  // mm/kasan/report*.c, mm/kfence/report.c, kernel/kcsan/report.c, mm/kmsan/report.c
  /^(?:Read|Write|Allocated|Freed|The buggy|Memory state|page:|head:|flags:|raw:|>|[0-9a-f]{8,16}:|page dumped|page_owner|Last potentially|Uninit|Local variable|Bytes? \d|read(?:-write)? to|write to|value changed|Reported by|kfence-#|allocated by|freed by|KASAN|Free of|Object|Redzone|Padding|INFO: (?:Slab|Object|Allocated|Freed)|FIX [\w.:-]{1,64}: |Slab 0x|kmem_cache_destroy |Allocated in|Freed in|Disabling lock)/,
  // kernel/locking/lockdep.c, kernel/hung_task.c, kernel/rcu/tree_stall.h
  /^[0-9a-f]{8,16} \(.{1,160}\)\{.{4,8}\}/,
  /^(?:Preemption disabled at:|in_atomic\(\): |preempt_count: |RCU nest depth: |other info|stack backtrace|locks held|no locks held|the existing|which lock|but task|-> #|Chain exists|Possible|and this task|\d+ locks? held|#\d+:|Showing|task:|"echo 0|NMI backtrace|Sending NMI|rcu:|INFO: lockdep|the code is fine|turning off the locking|swapper\/|.{1,40} is trying to)/,
  // mm/oom_kill.c, mm/page_alloc.c: show_mem()
  /^(?:Mem-Info|active_anon|Node \d|lowmem_reserve|Tasks state|\[ *(?:pid|\d+) *\]|oom-kill:|oom_reaper|Out of memory|Unreclaimable|\d+ (?:total pagecache|pages|slab)|Free swap|Total swap|Swap cache)/,
  // kernel/panic.c, kernel/smp.c, arch/*: the way down
  /^(?:Kernel Offset|Rebooting in|SMP: stopping|CPU features|Memory Limit|Dumping ftrace|Disabling lock|\(ftrace|PHYS_OFFSET|Sysrq|drm_kms|mce: )/,
  // arch/powerpc/kernel/{process,traps,mce}.c, arch/powerpc/mm: what a machine check goes on with
  /^(?:MCE: CPU\d+: |[LB]E (?:PAGE_SIZE|SMP|NUMA)|CTR: |Kernel attempted to |Sending IPI to other|System (?:crash )?dump|User access of kernel|MMU=|(?:<?[0-9a-f]{8}>? ){3,15}<?[0-9a-f]{8}>?$)/,
  // arch/{mips,sparc,parisc,m68k,xtensa,alpha,arc}/kernel: registers and stacks
  /^(?:\$ ?\d{1,2} +: |(?:Hi|Lo|Acx|epc|ra|Status|Cause|BadVA|PrId) *: |TSTATE: |[TRN]PC: |[goli][07]: |Caller\[|Instruction DUMP: |(?:s?r\d\d-\d\d|fr\d\d-\d\d) |I[AI][SO]?[QR]: |[da]\d: [0-9a-f]{8}|SR: [0-9a-f]{4} |Frame format=|wb \d stat|push data: |Stack from |a\d\d: |lbeg: |wb: |(?:pc|[vatsg]\d) = |(?:pc|ra|ip) is at |Trace:|[\w/.:@+-]{1,16}\(\d{1,10}\): (?:Oops|Kernel) |\[(?:ECR|EFA|BLINK|ERET|STAT32) *\]: |Disabling lock)/,
  // BSD: ddb and backtraces
  /^(?:cpuid|time =|KDB|#\d+ |--- |Stopped at|Starting stack|end trace|fault (?:virtual )?address|instruction pointer|stack pointer|frame pointer|code segment|processor eflags|current process|trap number|Uptime|\w+\(.*\) at |db|ddb)/,
  // Xen, EDK II
  /^(?:\(XEN\)|RIP +- |R[A-D]X +- |ExceptionData|!!!! |CR\d +- |FXSAVE)/,
];

export const isReportLine = (text: string): boolean => PARTS.some((pattern) => pattern.test(text));

/** What shells ask for that nobody answers: systemd src/shared/sulogin, util-linux sulogin, dracut, initramfs-tools. */
const ASKS =
  /^(?:\(or (?:press|type) Control-D|Give root password for|Enter root password|Press (?:Enter|Control-D) (?:for|to)|Control-D to continue|system logs, "|to continue boot|to boot into default mode|the system logs|See sulogin\(8\)|sulogin: |Cannot open access to console|After logging in|Type "journalctl|Exit the shell to continue|[\w()/.:~-]{0,24}[#$] ?$)/;

/** Whether a line asks for somebody to come. */
export const isPrompt = (text: string): boolean => ASKS.test(text);

/** What start-up says when it got past the shell. */
export const STARTED =
  /(?:Reached target (?!Emergency|Rescue)[\w.-]{0,40}(?:[Mm]ulti-[Uu]ser|[Gg]raphical)|Startup finished in |\blogin: ?$)/;

/** Behind these come traces of others, or of earlier times: they say nothing of who is guilty. */
export const TRACE_IS_OVER =
  /^\s*(?:Allocated by|Freed by|Last potentially|The buggy|Memory state|Uninit was|Local variable|-> #\d|the existing dependency|---\[ end trace|Showing all locks|other info that|Second to last|Kernel panic|page last (?:allocated|free)|page_owner|Mem-Info|previously|value changed|Reported by|allocated by|freed by)/;

/** A report's last line; a backtrace of other CPUs, or the panic, may follow. */
export const REPORT_IS_OVER = /^(?:---\[ end trace|={18,100}$)/;
