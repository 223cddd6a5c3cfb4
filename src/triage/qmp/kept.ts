const MAX_TEXT = 1000;

/**
 * The beginning of a text, as a string of its own: a slice would keep all of the message that it is of in memory.
 * @param limit characters
 */
export const kept = (text: string, limit = MAX_TEXT): string =>
  Buffer.from(text.slice(0, limit), "utf16le").toString("utf16le");
