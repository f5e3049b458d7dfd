/* Holds a pod's namespaces, and is a container that does nothing: ends when told, and reaps what others leave to it. */
#include <signal.h>
#include <stddef.h>
#include <sys/wait.h>

int main(void)
{
	sigset_t signals;
	int got;

	sigfillset(&signals);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	for (;;) {
		if (sigwait(&signals, &got) != 0)
			return 1;
		if (got == SIGCHLD)
			while (waitpid(-1, NULL, WNOHANG) > 0)
				;
		else if (got == SIGTERM || got == SIGINT)
			return 0;
	}
}
