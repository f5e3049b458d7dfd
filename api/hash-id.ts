import { hash } from 'node:crypto';

/**
 * A stable name for something that is told by its text: `<kind>:` and 38 characters, from a SHA-224 of kind and text. Different texts
 * have different names, even where somebody chooses them with bad intent; that is why it is a cryptographic hash.
 */
export function hashId(kind: string, text: string): string {
  return `${kind}:${hash('sha224', `${kind}:${text}`, 'base64url')}`;
}
