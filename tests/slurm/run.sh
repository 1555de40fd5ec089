#!/usr/bin/env bash
# A real one-node Slurm on this machine: the teacher's capture and a sweep of three points that wait for it, one
# job killed in mid-training, requeued, resumed and finished; then a capture that fails. Needs root and Debian's slurm-wlm and munge; installs them where they are missing.
#
#   tests/slurm/run.sh [PYTHON]
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${1:-.venv/bin/python}
work=$(mktemp -d)
host=$(hostname -s)

command -v slurmctld >/dev/null || { apt-get update -qq && apt-get install -y -qq slurm-wlm munge >/dev/null; }

stop() {
    for file in "$work"/slurmctld.pid "$work"/slurmd.pid /run/munge/munged.pid; do
        [ ! -s "$file" ] || kill "$(cat "$file")" || true
    done
    rm -rf "$work"
}
trap stop EXIT
mkdir -p "$work/state" "$work/spool" /run/munge /var/log/munge /var/lib/munge /etc/munge

[ -s /etc/munge/munge.key ] || dd if=/dev/urandom bs=1 count=1024 of=/etc/munge/munge.key 2>/dev/null
chown -R munge: /etc/munge /run/munge /var/log/munge /var/lib/munge
chmod 400 /etc/munge/munge.key
su -s /bin/sh munge -c munged

cat >"$work/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
JobRequeue=1
MpiDefault=none
KillWait=5
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
NodeName=$host CPUs=$(nproc) State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF="$work/slurm.conf"
slurmctld -f "$SLURM_CONF"
slurmd -f "$SLURM_CONF"
for _ in $(seq 60); do sinfo -h -o %T 2>/dev/null | grep -q idle && break; sleep 1; done
sinfo

"$python" tests/slurm/write_sweep.py "$work"
"$python" -m leadspan sweep "$work/sweep.yaml" --output "$work/sweep" --launcher slurm &
driver=$!

# Wait until some job is in mid-training, then take it away as a preemption would.
victim=
for _ in $(seq 600); do
    for metrics in "$work"/sweep/points/*/metrics.jsonl; do
        if [ -s "$metrics" ] && [ "$(wc -l <"$metrics")" -ge 3 ] && [ ! -e "$(dirname "$metrics")/manifest.json" ]; then
            victim=$(dirname "$metrics")
            break 2
        fi
    done
    sleep 0.2
done
[ -n "$victim" ] || { echo "no job was seen in mid-training"; exit 1; }
job=$(cat "$victim/job_id")
echo "killing job $job ($(basename "$victim")) after $(wc -l <"$victim/metrics.jsonl") lines"
scontrol requeue "$job"
wait "$driver"

restarts=$(scontrol show job "$job" | grep -o 'Restarts=[0-9]*' | cut -d= -f2)
finished=$(ls "$work"/sweep/points/*/manifest.json | wc -l)
echo "job $job was restarted $restarts time(s); $finished of 3 points finished"
[ "$restarts" -ge 1 ] && [ "$finished" = 3 ]
capture=$(cat "$work/sweep/job_id")
scontrol show job "$job" | grep -q "Dependency=(null)" # met: the capture ended before
grep -q . "$work/sweep/teacher_cache/manifest.json"
echo "capture was job $capture"

sed -i "s#path: .*/teacher\$#path: $work/nowhere#" "$work/sweep.yaml"
! "$python" -m leadspan sweep "$work/sweep.yaml" --output "$work/lost" --launcher slurm 2>"$work/said"
cat "$work/said"
[ "$(grep -c "^failed: .*: the teacher's capture failed: " "$work/said")" = 3 ] && echo "passed"
