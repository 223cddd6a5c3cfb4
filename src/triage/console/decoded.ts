/** Characters of a line that are kept. */
const MAX_TEXT = 1000;

/** Text that was read one byte a character, as UTF-8. */
export const decoded = (text: string, limit = MAX_TEXT): string =>
  Buffer.from(text.slice(0, limit), "latin1").toString("utf8");
