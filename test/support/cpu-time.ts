/** Milliseconds of this process on its processors: what a busy machine makes slow in waiting does not count. */
export const cpuTime = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};
