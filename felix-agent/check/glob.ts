/** True if the text matches a shell pattern of `*`, `?` and `[...]`, as fnmatch(3) takes it, from its beginning to its end. */
export function matchesGlob(pattern: string, text: string): boolean {
  const source = pattern.replaceAll(/\[(!?)([^\]]+)\]|[\s\S]/g, (part, not: string | undefined, set?: string) => {
    if (set !== undefined) return `[${not === '!' ? '^' : ''}${set.replaceAll(/[\\^[]/g, String.raw`\$&`)}]`;
    if (part === '*') return '[^]*';
    if (part === '?') return '[^]';
    return part.replaceAll(/[\\^$.|+()[\]{}]/g, String.raw`\$&`);
  });
  return new RegExp(`^${source}$`).test(text);
}
