const newline = 0x0a;

/** The lines of a stream of bytes, without their ends. What is left when it ends is no line: it was cut off, and nobody can use it. */
export async function* linesOf(chunks: AsyncIterable<Buffer>): AsyncGenerator<string, void, undefined> {
  // Parts of a line that is not whole yet; put together once, however many they are.
  let parts: Buffer[] = [];
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(newline); end >= 0; end = chunk.indexOf(newline, start)) {
      if (parts.length === 0) {
        yield chunk.toString('utf8', start, end);
      } else {
        parts.push(chunk.subarray(start, end));
        const line = Buffer.concat(parts).toString('utf8');
        parts = [];
        yield line;
      }
      start = end + 1;
    }
    if (start < chunk.length) parts.push(start === 0 ? chunk : chunk.subarray(start));
  }
}
