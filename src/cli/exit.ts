/** Exit statuses are API: the classes in core/errors.ts carry them. */
export const EXIT_STATUSES: readonly (readonly [string, string])[] = [
  ["0", "done"],
  ["1", "a finding: the command was asked to judge, and something is wrong"],
  ["2", "usage: bad options, an output that exists"],
  ["3", "not a file for this job"],
  ["4", "the right kind of file, but damaged where it matters"],
  ["5", "healthy input that lacks what is needed"],
  ["6", "done with gaps or damage, and --strict was given"],
  ["7", "input/output error"],
  ["70", "a bug in guestcore"],
  ["130", "interrupted (SIGINT) before the output was complete; 129 for SIGHUP, 143 for SIGTERM"],
  ["141", "the reader of standard output went away"],
];

export const exitStatusText = (): string =>
  ["\nExit status:", ...EXIT_STATUSES.map(([code, meaning]) => `  ${code.padEnd(4)} ${meaning}`)].join("\n");
