#!/usr/bin/env bash
# Make the models that come with twil; README.md tells what is done, and why.
#
#     bash recipes/shipped/make.sh ENCODER WORK [SEED …]
#
# in a clone, with the data sets in data/. What is in WORK is not made again, and a run that was interrupted
# goes on where it stopped. What ships is then in WORK/twil-es, WORK/sentiment and WORK/emotion.
set -euo pipefail

encoder=$1 work=$2
shift 2
seeds=${*:-1 2 3}
here=$(dirname "$0")
mkdir -p "$work"

make() { # OUTPUT COMMAND…
    local output=$1 resume=()
    shift
    [ -e "$output" ] && return
    [ -e "$output.checkpoint" ] && resume=(--resume)
    twil "$@" "${resume[@]}" -o "$output"
}

# Nothing that a model is measured on is learned from.
measured=()
for file in data/*/dev.tsv data/*/test.tsv; do
    head -n 1 "$file" | grep -qP '\tTEXT\t' && measured+=(--without "$file")
done

[ -e "$work/emoji_dev.tsv" ] || python "$here/texts.py" data "$work"
texts=("$work/tweets.tsv" data/{umsab_spanish,brighter_es,goldtox_es}/train.tsv)

make "$work/vectors" distill "$encoder" "${texts[@]}" "${measured[@]}" --config "$here/vectors.toml"
make "$work/emoji" finetune "$work/emoji_train.tsv" --dev "$work/emoji_dev.tsv" --model "$work/vectors" \
    --config "$here/emoji.toml"
[ -e "$work/twil-es" ] || python "$here/pack.py" "$work/emoji" "$work/twil-es" "$here/twil-es.md"

task=() # what is asked, where that is not one label
teach() { # NAME SET TRAIN OPTION…: a teacher
    local name=$1 data=data/$2 train=$3
    shift 3
    make "$work/$name" finetune "$train" --dev "$data/dev.tsv" --test "$data/test.tsv" --model "$encoder" \
        --config "$here/teacher.toml" "${task[@]}" "$@"
}

tunings=1 tuning=() # seeds of the last pass over the labelled rows, and what is set there
learn() { # NAME SET TRAIN TUNED TEACHER…: students, the mean of their weights, tuned on TUNED, and that in int8
    local name=$1 data=data/$2 train=$3 tuned=$4 teacher="$work/$5" also=() runs=() last=() seed
    shift 5
    local other
    for other; do also+=(--also "$work/$other"); done
    for seed in $seeds; do
        make "$work/$name-$seed" distill "$teacher" "${also[@]}" "${texts[@]}" "${measured[@]}" \
            --labelled "$train" --dev "$data/dev.tsv" --test "$data/test.tsv" --store "$work/$name-answers" \
            --student "$work/twil-es" --config "$here/student.toml" --seed "$seed"
        runs+=("$work/$name-$seed")
    done
    [ -e "$work/$name-mean" ] || python "$here/mean.py" "$work/$name-mean" "${runs[@]}"
    for seed in $tunings; do
        make "$work/$name-tuned-$seed" finetune "$tuned" --model "$work/$name-mean" --keep-head \
            --config "$here/tuned.toml" "${task[@]}" "${tuning[@]}" --seed "$seed"
        last+=("$work/$name-tuned-$seed")
    done
    [ -e "$work/$name-tuned" ] || python "$here/mean.py" "$work/$name-tuned" "${last[@]}"
    make "$work/$name-int8" export "$work/$name-tuned" --onnx --optimize --precision int8 \
        --calibration "$tuned" --eval "$data/dev.tsv" --min-agreement 99
    [ -e "$work/$name" ] ||
        python "$here/card.py" "$work/$name" "$here/about.md" "$data/test.tsv" "$here/$name.md" \
            "$work/$name-int8" "${runs[@]}"
}

tweets=data/umsab_spanish/train.tsv everyday=$work/sentiment_train.tsv
[ -e "$everyday" ] || { cat "$tweets"; tail -n +2 "$here/everyday.tsv"; } >"$everyday"
teach sentiment-teacher-tweets umsab_spanish "$tweets" --epochs 5 --seed 2
teach sentiment-teacher-everyday umsab_spanish "$everyday" --epochs 5 --seed 2
learn sentiment umsab_spanish "$everyday" "$everyday" sentiment-teacher-tweets sentiment-teacher-everyday

tweets=data/brighter_es/train.tsv everyday=$work/emotion_train.tsv tuned=$work/emotion_tuned.tsv
own() { tail -n +2 "$here/everyday-emotions.tsv"; }
[ -e "$everyday" ] || { cat "$tweets" && own; } >"$everyday"
[ -e "$tuned" ] || { cat "$everyday" && own | sed s/^/a/ && own | sed s/^/b/; } >"$tuned"
task=(--task multi-label --labels anger,disgust,fear,joy,sadness,surprise)
tunings="1 2 3" tuning=(--epochs 3 --set train.lr=3e-4)
teach emotion-teacher brighter_es "$tweets" --epochs 10
learn emotion brighter_es "$everyday" "$tuned" emotion-teacher
