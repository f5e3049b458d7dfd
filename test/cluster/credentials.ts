import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Somebody the API server knows by a token. */
export interface User {
  readonly name: string;
  readonly groups?: readonly string[];
}

/** `kubectl` of the person who owns the cluster. */
export const admin: User = { name: 'admin', groups: ['system:masters'] };

/** A kubelet, as the Node authorizer knows it. */
export function nodeUser(node: string): User {
  return { name: `system:node:${node}`, groups: ['system:nodes'] };
}

/**
 * Writes the API server's token file; returns the token of each user. Tokens instead of client certificates: no program that makes
 * certificates is needed.
 */
export function writeTokens(path: string, users: readonly User[]): ReadonlyMap<string, string> {
  const tokens = new Map(users.map(({ name }) => [name, randomBytes(16).toString('hex')]));
  const lines = users.map(({ name, groups = [] }) => `${tokens.get(name) ?? ''},${name},${name},"${groups.join(',')}"`);
  writeFileSync(path, `${lines.join('\n')}\n`, { mode: 0o600 });
  return tokens;
}

/** The key that signs the tokens of service accounts, and its public half. */
export function writeServiceAccountKeys(dir: string): { readonly signing: string; readonly verifying: string } {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
  const paths = { signing: join(dir, 'service-account.key'), verifying: join(dir, 'service-account.pub') };
  writeFileSync(paths.signing, privateKey, { mode: 0o600 });
  writeFileSync(paths.verifying, publicKey);
  return paths;
}

/** The text of a kubeconfig file; `certificate` is the server's, in PEM. */
export function kubeconfig(server: string, certificate: string, token: string): string {
  return JSON.stringify(
    {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [
        {
          name: 'tortie-test',
          cluster: { server, 'certificate-authority-data': Buffer.from(certificate).toString('base64') },
        },
      ],
      users: [{ name: 'user', user: { token } }],
      contexts: [{ name: 'tortie-test', context: { cluster: 'tortie-test', user: 'user' } }],
      'current-context': 'tortie-test',
    },
    undefined,
    2,
  );
}
