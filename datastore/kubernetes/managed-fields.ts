const key = '"managedFields":[';
/** What follows the list: it is the last of a Kubernetes kind's metadata, and something else follows those. */
const after = '},"';

/**
 * `JSON.parse` of an object of one of Kubernetes' own kinds, mostly without its `managedFields`: nobody here reads them, and they are about half of a
 * Pod's text. The list's text is cut out where its end is plain to see: up to the first closing bracket (it holds no lists), if that stands where the
 * list should end. The key's quotes would be escaped within a string; and if the bracket stands in one, what is left after the cut is no JSON, and
 * the whole is read. (A list of that name in another place may go, too: no schema knows one.) Throws what `JSON.parse` throws.
 */
export function parseWithoutManagedFields(text: string): unknown {
  const start = text.indexOf(key);
  const end = start < 0 ? -1 : text.indexOf(']', start);
  if (end < 0 || text[start - 1] !== ',' || !text.startsWith(after, end + 1)) return JSON.parse(text);
  try {
    return JSON.parse(text.slice(0, start - 1) + text.slice(end + 1));
  } catch {
    return JSON.parse(text);
  }
}
