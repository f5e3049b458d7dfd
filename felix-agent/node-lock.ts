import { join } from 'node:path';
import { sharedWithChanges } from '#native/command-runner.ts';
import type { KernelFileLock } from '#native/flock.ts';
import type { NodeSettings } from './config/bootstrap.ts';
import type { Log } from './log.ts';
import { makeOwnDirectories } from './own-directories.ts';

/** How long the lock may be waited for in silence, in ms. */
const silentMs = 1_000;

/**
 * Makes the node's directories (for root alone) and takes the lock that lets one agent at a time use them. Waits for an agent that is
 * still stopping, and says so; the kernel gives the lock back when its holder has died, and what it had set going on the kernel has ended.
 */
export async function lockNode(settings: NodeSettings, lock: KernelFileLock, log: Log): Promise<Disposable> {
  makeOwnDirectories(settings);
  const { runDir, stateDir } = settings;
  const held = new DisposableStack();
  // Both may be one directory: a second lock on it would wait for the first for ever.
  for (const dir of new Set([runDir, stateDir])) {
    const path = join(dir, 'agent.lock');
    const notice = setTimeout(
      () =>
        log.warn({ path }, 'waiting for another agent, or a program that it has started, to let go of this directory'),
      silentMs,
    );
    try {
      const { fd } = held.use(await lock.acquire(path));
      held.use(sharedWithChanges(fd));
    } finally {
      clearTimeout(notice);
    }
  }
  return held;
}
