#!/usr/bin/env bash
# Make the models that come with twil; README.md tells what is done, and why.
#
#     bash recipes/shipped/make.sh ENCODER WORK [SEED …]
#
# in a clone, with the data sets in data/. What is in WORK is not made again, and a run that was interrupted
# goes on where it stopped. What ships is then in WORK/twil-es and WORK/sentiment.
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

teach() { # NAME SET TRAIN OPTION…: a teacher
    local name=$1 data=data/$2 train=$3
    shift 3
    make "$work/$name" finetune "$train" --dev "$data/dev.tsv" --test "$data/test.tsv" --model "$encoder" \
        --config "$here/teacher.toml" "$@"
}

learn() { # NAME SET TRAIN TEACHER…: students, the mean of their weights, tuned, and that in int8
    local name=$1 data=data/$2 train=$3 teacher="$work/$4" also=() runs=() seed
    shift 4
    local other
    for other; do also+=(--also "$work/$other"); done
    for seed in $seeds; do
        make "$work/$name-$seed" distill "$teacher" "${also[@]}" "${texts[@]}" "${measured[@]}" \
            --labelled "$train" --dev "$data/dev.tsv" --test "$data/test.tsv" --store "$work/$name-answers" \
            --student "$work/twil-es" --config "$here/student.toml" --seed "$seed"
        runs+=("$work/$name-$seed")
    done
    [ -e "$work/$name-mean" ] || python "$here/mean.py" "$work/$name-mean" "${runs[@]}"
    make "$work/$name-tuned" finetune "$train" --model "$work/$name-mean" --keep-head \
        --config "$here/tuned.toml"
    make "$work/$name-int8" export "$work/$name-tuned" --onnx --optimize --precision int8 \
        --calibration "$train" --eval "$data/dev.tsv" --min-agreement 99
    [ -e "$work/$name" ] ||
        python "$here/card.py" "$work/$name" "$here/about.md" "$data/test.tsv" "$here/$name.md" \
            "$work/$name-int8" "${runs[@]}"
}

tweets=data/umsab_spanish/train.tsv everyday=$work/sentiment_train.tsv
[ -e "$everyday" ] || { cat "$tweets"; tail -n +2 "$here/everyday.tsv"; } >"$everyday"
teach sentiment-teacher-tweets umsab_spanish "$tweets" --epochs 5 --seed 2
teach sentiment-teacher-everyday umsab_spanish "$everyday" --epochs 5 --seed 2
learn sentiment umsab_spanish "$everyday" sentiment-teacher-tweets sentiment-teacher-everyday
