// What a command costs, and tables of it.
import { spawnSync } from "node:child_process";

// wait4() tells what Node does not: CPU time and peak memory of one child, all of its threads.
const METER = `
import os, sys, time
started = time.monotonic()
null = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0), (os.POSIX_SPAWN_DUP2, 1, 2)]
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=null)
_, status, usage = os.wait4(pid, 0)
wall = time.monotonic() - started
print(os.waitstatus_to_exitcode(status), wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
`;

/** Seconds of wall and CPU time, and peak memory in MiB; undefined when the command fails. */
export function measure(command) {
  const { stdout, error } = spawnSync("python3", ["-c", METER, ...command], { encoding: "utf8" });
  if (error !== undefined) throw error;
  const [status, wall, cpu, rss] = stdout.trim().split(" ").map(Number);
  return status === 0 ? { wall, cpu, rss: rss / 1024 } : undefined;
}

export function median(numbers) {
  const sorted = numbers.toSorted((left, right) => left - right);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

export const isInstalled = (command) =>
  spawnSync(command, ["--help"], { stdio: "ignore" }).error === undefined;

/** Lines of cells: the first column to the left, the others to the right. */
export function table(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => String(row[column]).length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => String(cell)[column === 0 ? "padEnd" : "padStart"](widths[column]))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
