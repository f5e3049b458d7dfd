import { chmodSync, existsSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { adminSocketName } from './admin/server.ts';
import { confRecordName } from './cni-conf/conflist.ts';
import type { NodeSettings } from './config/bootstrap.ts';
import { EndpointStatusFiles } from './endpoints/endpoint-status-files.ts';
import { HostSysctlFile } from './host-sysctl-file.ts';
import { pluginRecordName } from './install/install.ts';
import { removeIfEmpty } from './remove-if-empty.ts';

/** What agent and installation make in each of the two. A new file there is named here. */
const ownNames = {
  runDir: ['agent.lock', 'cni.sock', adminSocketName],
  stateDir: [
    'agent.lock',
    'endpoints',
    'ipam.journal',
    'dataplane.json',
    HostSysctlFile.fileName,
    EndpointStatusFiles.recordName,
    pluginRecordName,
    confRecordName,
  ],
} as const;
type Directories = Pick<NodeSettings, keyof typeof ownNames>;

/** Mode of a directory that somebody has made for us without a thought of it: the kubelet, for a mount. */
const madeByOthers = 0o755;

/**
 * Makes run and state directory, for root alone. One that is there already is made root's alone only if it has the mode that a kubelet gives it and nothing
 * in it but what is ours: a directory that is used for other things too (`--run-dir=/run`) stays as it is.
 */
export function makeOwnDirectories(directories: Directories): void {
  for (const dir of new Set([directories.runDir, directories.stateDir])) {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    const isOpen = (statSync(dir).mode & 0o7777) === madeByOthers;
    const isOurs = ofBoth(directories, dir);
    if (isOpen && readdirSync(dir).every(isOurs)) chmodSync(dir, 0o700);
  }
}

/** Removes what is ours in them, also what a crash left half-written, and each that is empty then; a mount point stays. */
export function removeOwnDirectories(directories: Directories): void {
  for (const dir of new Set([directories.runDir, directories.stateDir])) {
    const isOurs = ofBoth(directories, dir);
    const names = existsSync(dir) ? readdirSync(dir) : [];
    for (const name of names.filter(isOurs)) rmSync(join(dir, name), { force: true, recursive: true });
    removeIfEmpty(dir);
  }
}

/** Both may be one directory. Files that are renamed into their place are ours before that as well. */
function ofBoth(directories: Directories, dir: string): (name: string) => boolean {
  const names = new Set<string>(
    (['runDir', 'stateDir'] as const).flatMap((which) => (directories[which] === dir ? ownNames[which] : [])),
  );
  return (name) => names.has(name) || names.has(finalNameOf(name));
}

function finalNameOf(temporary: string): string {
  return temporary.replace(/^\.(.*)\.tortie-tmp$/, '$1').replace(/\.(tmp|new)$/, '');
}
