<?php
// An application with every fault of a real one; `do` says which. Its good side is one line.

function begin(): void {
    while (ob_get_level() > 0) {
        ob_end_flush();
    }
    echo str_repeat('x', 20000);
    flush();
}

function dies(): void {
    // Long enough for the web server to pass on what was said so far.
    usleep(300000);
    posix_kill(getmypid(), 9);
}

switch ($_GET['do'] ?? '') {
    case 'error':
        throw new RuntimeException('the shop has no database');
    case 'slow':
        sleep(4);
        echo "late\n";
        break;
    case 'hold':
        // Says that it runs; the request itself is silent.
        touch(dirname(__DIR__) . '/held/' . basename($_GET['held'] ?? 'nobody'));
        sleep(300);
        break;
    case 'killed':
        posix_kill(getmypid(), 9);
        break;
    case 'cut':
        header('Content-Length: 100000');
        begin();
        dies();
        break;
    case 'chunk-cut':
        begin();
        dies();
        break;
    case 'half':
        begin();
        throw new RuntimeException('the shop has lost its database');
    case 'stall':
        header('Content-Length: 100000');
        begin();
        // Longer than anybody here waits, and no longer: the doctor asks many times.
        sleep(20);
        break;
    case 'header':
        header('Set-Cookie: cart=' . str_repeat('c', (int) ($_GET['size'] ?? 0)));
        echo "with a large header\n";
        break;
    default:
        echo "fine\n";
}
